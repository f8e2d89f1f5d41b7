"""Failures of engines and upstreams as the errors that clients see: OpenAI's shape, and no secrets of ours."""

from typing import Any

import orjson

from models.errors import Invalid, NotFound, ParleyError, Unavailable
from serve.accounting.metrics import Metrics
from serve.gateway.authorization import model_not_found
from serve.gateway.engine_errors import clean_message, translate_error
from serve.gateway.model_request import ModelRequest
from serve.gateway.snapshot import Route
from serve.transport.error_responses import openai_error

# Routes that few servers have. If the server does not have one, the client gets a 404.
OPTIONAL_ROUTES = frozenset(
    {"/v1/messages", "/v1/messages/count_tokens", "/v1/tokenize", "/v1/rerank", "/v1/moderations"}
)


class BadUpstream(ParleyError):
    """An upstream is misconfigured; a retry cannot help."""

    status = 502


class UpstreamDown(Unavailable):
    """A server failed before it answered anything, so a fallback may be tried."""


def upstream_down(metrics: Metrics, route: Route, how: str, message: str) -> UpstreamDown:
    """The error for a server that failed before it answered, counted under `how`."""
    metrics.failed(route.spec.id, how)
    return UpstreamDown(f"The server of {route.spec.id!r} {message}.", code="upstream_error", retry_after=1)


def upstream_fault(metrics: Metrics, route: Route, how: str, message: str) -> Unavailable:
    """The error for a server that failed in the middle of its response, counted under `how`."""
    metrics.failed(route.spec.id, how)
    return Unavailable(f"The server of {route.spec.id!r} {message}.", code="upstream_error", retry_after=1)


def client_error(metrics: Metrics, request: ModelRequest, status: int, data: bytes) -> dict[str, Any]:
    """The error, in OpenAI's shape, that the client gets for a response of status 300 and above.

    Raises:
        BadUpstream: the error concerns Parley's own configuration. Invalid, NotFound: the server does not have this
            route. Unavailable: the engine has died.
    """
    route = request.route
    if status >= 500 or status < 400 or status in (401, 403):
        metrics.failed(route.spec.id, str(status))
    if status < 400:
        raise BadUpstream(f"The server of {route.spec.id!r} redirects (status {status}): correct its base_url.")
    if status in (401, 403):
        credential = route.spec.upstream.credential if route.spec.upstream else None
        advice = f": check {credential}." if credential else "."
        raise BadUpstream(f"The server of {route.spec.id!r} rejects Parley's key{advice}")
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError:
        content = None
    error = openai_error(content, status)
    if status == 404 and error["param"] == "model" and not route.hosted:
        raise model_not_found(route.spec.id)
    if _lacks_route(request, status, content, error):
        raise _no_route(request)
    return error if route.hosted else translate_error(error, status, request.path, request.body, route.spec.id)


def stream_error(request: ModelRequest, error: dict[str, Any]) -> dict[str, Any]:
    """The error with which a server ended its stream, for the client."""
    translated = openai_error(error, 500)
    if request.route.hosted:
        return translated
    return translated | {"message": clean_message(translated["message"], 500)}


def _lacks_route(request: ModelRequest, status: int, content: Any, error: dict[str, Any]) -> bool:
    """Whether the server does not have the request's route. vLLM only has the routes that its model supports."""
    if not request.route.hosted:
        unknown = status in (404, 405) and not (isinstance(content, dict) and "error" in content)
        return unknown or status == 501
    if request.path not in OPTIONAL_ROUTES or status not in (404, 405, 501):
        return False
    return error["code"] != "model_not_found" and error["param"] != "model"


def _no_route(request: ModelRequest) -> ParleyError:
    route, path = request.route, request.path
    where = "its upstream" if route.hosted else "its engine"
    message = f"The model {route.spec.id!r} does not support {path}: {where} has no such route."
    if path not in OPTIONAL_ROUTES:
        return Invalid(message, param="model")
    advice = " Use /v1/chat/completions." if path == "/v1/messages" else ""
    return NotFound(message + advice, code="unknown_url", param="model")
