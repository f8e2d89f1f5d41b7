"""Routes of other rooms on the gateway: matched by the first two parts of the path, handled by Starlette.

It knows no room's routes; `parley.py` brings them. A handler finds `request.state.settings`, `.database`, `.key` (a
KeyInfo, or None where no key is needed), `.lift_limit()` and `.catch_up()` (see `models.completions.recorded`), and
raises ParleyErrors. Most of these routes change
stored data (files, trainings), so the gateway opens them to owners only.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from models.audit import Actor, acting_as
from models.completions.recorded import CatchUp
from models.database import Database
from models.errors import NotFound, ParleyError
from models.keys import KeyInfo
from models.settings.settings import Settings
from serve.gateway.addresses import suggested_address
from serve.gateway.exchange import Exchange
from serve.transport.asgi import ASGIMessage, Receive, Scope
from serve.transport.error_responses import error_headers
from serve.transport.request_bodies import body_too_large

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


# Their handlers check the key themselves. GET on the first path lists what the gateway's own POST stored.
_STORED = "/v1/chat/completions"
_FOR_CLIENTS = (_STORED, "/v1/responses/", "/v1/feedback", "/v1/files", "/v1/batches")


class MethodNotAllowed(ParleyError):
    """The route exists for other methods."""

    status = 405
    kind = "invalid_request_error"


class MountedRoutes:
    """The other rooms' routes as one application."""

    def __init__(
        self, routes: "Sequence[BaseRoute]", settings: Settings, database: Database, catch_up: CatchUp
    ) -> None:
        self._settings = settings
        self._catch_up = catch_up
        self._database = database
        self.prefixes = frozenset(_prefix(getattr(route, "path", "")) for route in routes)
        self._app = _starlette_app(routes) if routes else None

    def matches(self, path: str) -> bool:
        """Whether a mounted route may take this path, by its first two parts."""
        return _prefix(path) in self.prefixes

    def lists(self, path: str) -> bool:
        """Whether a mounted route handles GET on a path whose POST the gateway itself handles."""
        return path == _STORED and self.matches(path)

    def is_for_clients(self, path: str) -> bool:
        """Whether a path that `matches` is open to client keys too."""
        return path.startswith(_FOR_CLIENTS)

    def route(self, path: str) -> str:
        """The first two parts of a path that `matches`, such as `/v1/files`; empty for any other."""
        prefix = _prefix(path)
        return prefix if prefix in self.prefixes else ""

    async def handle(self, scope: Scope, receive: Receive, exchange: Exchange, key: KeyInfo | None) -> None:
        """Responds with the mounted route, or with a 404 or 405."""
        assert self._app is not None
        body = _BoundedReceive(receive, int(self._settings.max_body_mib * 2**20))
        scope["state"] = {
            "settings": self._settings,
            "database": self._database,
            "key": key,
            "lift_limit": body.lift_limit,
            "catch_up": self._catch_up,
        }
        with acting_as(request_actor(scope, key)):
            await self._app(scope, body, exchange.wrap_send())


class _BoundedReceive:
    """A `receive` that rejects a body over the limit, unless the route lifts the limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit: int | None = limit
        self._received_bytes = 0

    def lift_limit(self) -> None:
        """For a route that streams its body and bounds it itself."""
        self._limit = None

    async def __call__(self) -> ASGIMessage:
        message = await self._receive()
        self._received_bytes += len(message.get("body", b""))
        if self._limit is not None and self._received_bytes > self._limit:
            raise body_too_large(self._limit)
        return message


def request_actor(scope: Scope, key: KeyInfo | None) -> Actor:
    """The actor of a request, for the audit log."""
    client = scope.get("client")
    address = client[0] if client else ""
    return Actor(key.name, address, key.id) if key is not None else Actor("no key", address)


def internal_error() -> ParleyError:
    """The 500 for a defect of ours."""
    return ParleyError("An internal error occurred. The gateway's log has the details.")


def unknown_route(method: str, path: str, suggestion: str | None = None) -> NotFound:
    """The 404 for a route that does not exist. `suggestion`: the path that was probably meant."""
    hint = f": use {suggestion}." if suggestion else ""
    return NotFound(f"Invalid URL ({method} {path[:200]}){hint}", code="unknown_url")


def method_not_allowed(method: str, *allowed: str) -> MethodNotAllowed:
    """The 405 for a route that takes other methods."""
    supported = f" This route takes {' and '.join(allowed)}." if allowed else ""
    return MethodNotAllowed(
        f"Not allowed: {method}.{supported}", code="method_not_allowed", headers={"allow": ", ".join(allowed)}
    )


def _prefix(path: str) -> str:
    return "/".join(path.split("/", 3)[:3])


def _allowed_methods(routes: "Sequence[BaseRoute]", scope: Scope) -> list[str]:
    """The methods of all routes for this path. Starlette itself reports those of the first route only."""
    from starlette.routing import Match

    methods: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    return sorted(methods)


def _starlette_app(routes: "Sequence[BaseRoute]") -> Any:
    """Starlette over the routes, with errors in OpenAI's shape."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

    def error_response(error: ParleyError) -> Response:
        headers = {name.decode(): value.decode() for name, value in error_headers(error)}
        return Response(orjson.dumps(error.body()), error.status, headers, "application/json")

    async def on_parley_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, ParleyError)
        return error_response(error)

    async def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            path = request.url.path
            return error_response(unknown_route(request.method, path, suggested_address(path, {_prefix(path)})))
        if error.status_code == 405:
            return error_response(method_not_allowed(request.method, *_allowed_methods(routes, request.scope)))
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = {"error": {"message": error.detail, "type": kind, "param": None, "code": None}}
        return JSONResponse(body, error.status_code, headers=error.headers)

    async def on_disconnect(request: Request, error: Exception) -> Response:
        # Nobody reads this response: the status is for the metrics.
        return Response(status_code=499)

    async def on_exception(request: Request, error: Exception) -> Response:
        # Starlette raises the error again after this, so the gateway logs it like any other.
        return error_response(internal_error())

    handlers = {
        ParleyError: on_parley_error,
        HTTPException: on_http_exception,
        ClientDisconnect: on_disconnect,
        Exception: on_exception,
    }
    app = Starlette(routes=list(routes), exception_handlers=handlers)
    # A redirect from /v1/files/ would be a 307 without an error body.
    app.router.redirect_slashes = False
    return app
