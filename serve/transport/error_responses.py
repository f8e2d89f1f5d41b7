"""Errors in OpenAI's shape: response headers, raw responses, stream frames. Also the ids of requests."""

import os
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import orjson

from models.errors import ParleyError
from serve.transport.asgi import Headers


def _request_ids() -> Iterator[bytes]:
    """128 random bits each, drawn a hundred at a time because a system call costs the same for few bytes as for
    many.
    """
    while True:
        drawn = os.urandom(1600).hex().encode()
        for start in range(0, len(drawn), 32):
            yield b"req_" + drawn[start : start + 32]


# Each call returns a new, unique id.
next_request_id: Callable[[], bytes] = _request_ids().__next__


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
    data = orjson.dumps(error.body())
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nx-request-id: %s\r\nopenai-processing-ms: 0\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s"
    ) % (error.status, HTTPStatus(error.status).phrase.encode(), next_request_id(), len(data), data)


def error_frame(error: Mapping[str, Any]) -> bytes:
    """An error frame for a chunk stream. The SDK raises it; no [DONE] follows."""
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def error_event(error: Mapping[str, Any]) -> bytes:
    """An `error` event for a /v1/responses stream, with the fields that make the SDK raise it."""
    event = {**error, "type": "error", "sequence_number": 0, "error": error}
    return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"


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
