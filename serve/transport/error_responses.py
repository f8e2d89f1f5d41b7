"""Errors in OpenAI's and Anthropic's formats: response headers, raw responses, stream frames."""

import os
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson

from models.errors import ParleyError
from serve.transport.asgi import Headers


def error_headers(error: ParleyError) -> Headers:
    """The error's own headers, plus `retry-after`, or `x-should-retry: false` where a retry cannot help."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    elif error.status >= 409:
        headers.append((b"x-should-retry", b"false"))
    return headers


def raw_error(error: ParleyError) -> bytes:
    """An error as a complete HTTP response that closes its connection, for input that is not a valid request."""
    data, phrase = orjson.dumps(error.body()), HTTPStatus(error.status).phrase.encode()
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nx-request-id: req_%s\r\nopenai-processing-ms: 0\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s"
    ) % (error.status, phrase, os.urandom(16).hex().encode(), len(data), data)


def error_frame(error: Mapping[str, Any]) -> bytes:
    """An error frame for a chunk stream. The SDK raises it; no [DONE] follows."""
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def error_event(error: Mapping[str, Any]) -> bytes:
    """An `error` event for a /v1/responses stream, with the fields that make the SDK raise it."""
    event = {**error, "type": "error", "sequence_number": 0, "error": error}
    return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"


# Anthropic's error types: https://docs.anthropic.com/en/api/errors
_ANTHROPIC_TYPES = {
    401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
}  # fmt: skip


def anthropic_error(error: Mapping[str, Any], status: int, request_id: bytes) -> dict[str, Any]:
    """An error in OpenAI's format converted to Anthropic's, for /v1/messages. It keeps OpenAI's `param` and `code`."""
    kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return {
        "type": "error",
        "error": {**error, "type": kind},
        "request_id": request_id.decode(),
    }


def anthropic_event(error: Mapping[str, Any], request_id: bytes) -> bytes:
    """An `error` event for a /v1/messages stream."""
    return b"event: error\ndata: " + orjson.dumps(anthropic_error(error, 500, request_id)) + b"\n\n"


def openai_error(content: Any, status: int) -> dict[str, Any]:
    """An upstream's error body in OpenAI's shape: `message` and `type`, with `param` and `code` as strings or null."""
    inner = content.get("error", content) if isinstance(content, dict) else None
    if isinstance(inner, str):
        inner = {"message": inner}
    if not isinstance(inner, dict):
        inner = {}
    message = inner.get("message") or inner.get("detail") or f"The model's server answered with status {status}."
    kind = "invalid_request_error" if status < 500 else "server_error"
    code, param = inner.get("code"), inner.get("param")
    return {
        "message": message if isinstance(message, str) else orjson.dumps(message).decode(),
        "type": "rate_limit_error" if status == 429 else kind,
        "param": param.removeprefix("body.") if isinstance(param, str) else None,
        # vLLM puts the HTTP status here, which OpenAI clients do not expect.
        "code": code if isinstance(code, str) and not code.isdigit() else None,
    }
