"""What went wrong at an engine or an upstream, as a client is told it: OpenAI's shape, and nothing of our keys."""

import orjson

from models.errors import Invalid, ParleyError, Unavailable
from serve.accounting.metrics import Metrics
from serve.gateway.model_request import Asked
from serve.gateway.snapshot import Route
from serve.transport import responses
from serve.transport.responses import Headers
from serve.transport.upstream_client import Answer

_PASSED_ON = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})


class BadUpstream(ParleyError):
    """An upstream that cannot be used as it is set up. A repeat cannot help."""

    status = 502


class Down(Unavailable):
    """A server that failed before it answered anything: another one may be asked in its place."""


def down(metrics: Metrics, route: Route, how: str, words: str) -> Down:
    """The error for a server that failed before it answered, counted by `how`."""
    metrics.failed(route.spec.id, how)
    return Down(f"The server of {route.spec.id!r} {words}.", code="upstream_error", retry_after=1)


def fault(metrics: Metrics, route: Route, how: str, words: str) -> Unavailable:
    """The error for a server that failed in the middle of its answer, counted by `how`."""
    metrics.failed(route.spec.id, how)
    return Unavailable(f"The server of {route.spec.id!r} {words}.", code="upstream_error", retry_after=1)


def passed_on(answer: Answer) -> Headers:
    """The headers of an answer that are the client's too: when to come back, and how much is left of a limit."""
    return [(name, value) for name, value in answer.headers if name in _PASSED_ON or name.startswith(b"x-ratelimit-")]


def limits_there(answer: Answer, ours: Headers) -> Headers:
    """What an upstream says is left of its own limits, for a good answer: where the key's limits say nothing of it."""
    said = {name for name, _ in ours}
    return [(name, value) for name, value in answer.headers if name.startswith(b"x-ratelimit-") and name not in said]


def refusal(metrics: Metrics, asked: Asked, status: int, data: bytes) -> bytes:
    """The body for an answer of 300 and up.

    Raises:
        BadUpstream: what it says is about how we ask, and not for the client. Invalid: an engine without that route.
    """
    route = asked.route
    if status >= 500 or status < 400 or status in (401, 403):
        metrics.failed(route.spec.id, str(status))
    if status < 400:
        raise BadUpstream(f"The server of {route.spec.id!r} sends elsewhere (status {status}): mend its address.")
    if status in (401, 403):
        who = route.spec.upstream.credential if route.spec.upstream else None
        raise BadUpstream(f"The server of {route.spec.id!r} refuses Parley's key" + (f": check {who}." if who else "."))
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError:
        content = None
    if not route.hosted and status in (404, 405) and not (isinstance(content, dict) and "error" in content):
        # vLLM has a route only where its model is made for it.
        raise Invalid(
            f"The model {route.spec.id!r} does not take {asked.path}: its engine has no such route.", param="model"
        )
    return orjson.dumps({"error": responses.openai_error(content, status)})
