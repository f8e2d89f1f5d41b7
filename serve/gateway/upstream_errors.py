"""Failures of engines and upstreams as the errors that clients see: OpenAI's shape, and no secrets of ours."""

import orjson

from models.errors import Invalid, ParleyError, Unavailable
from serve.accounting.metrics import Metrics
from serve.gateway.model_request import ModelRequest
from serve.gateway.snapshot import Route
from serve.transport.error_responses import openai_error


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


def error_body(metrics: Metrics, request: ModelRequest, status: int, data: bytes) -> bytes:
    """The body that the client gets for an upstream's response of status 300 and above.

    Raises:
        BadUpstream: the error concerns Parley's own configuration. Invalid: the engine does not have this route.
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
    if not route.hosted and status in (404, 405) and not (isinstance(content, dict) and "error" in content):
        # vLLM only has the routes that its model supports.
        raise Invalid(
            f"The model {route.spec.id!r} does not support {request.path}: its engine has no such route.", param="model"
        )
    return orjson.dumps({"error": openai_error(content, status)})
