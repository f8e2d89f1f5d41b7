"""Routes of other rooms on the gateway: found by the path's first two parts, answered by Starlette, told as ours are.

It knows no room's routes; `parley.py` brings them. A handler finds `request.state.settings`, `.database`, `.key` (a
KeyInfo, or None where no key is needed) and `.lift_limit()`, and raises ParleyErrors. These routes change what the
house keeps (files, trainings), so the gateway lets only owners through to them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from models.database import Database
from models.errors import NotFound, ParleyError
from models.keys import KeyInfo
from models.settings import Settings
from serve.transport import responses
from serve.transport.request_bodies import too_large
from serve.transport.responses import ASGIMessage, Exchange, Receive, Scope

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


class NotAllowed(ParleyError):
    """The route is there, for another method."""

    status = 405
    kind = "invalid_request_error"


class Mounted:
    """The other rooms' routes as one application."""

    def __init__(self, routes: "Sequence[BaseRoute]", settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._parts = frozenset(_part(getattr(route, "path", "")) for route in routes)
        self._app = _application(routes) if routes else None

    def knows(self, path: str) -> bool:
        """Whether a route of a room may take this path: one look at its first two parts."""
        return _part(path) in self._parts

    def route(self, path: str) -> str:
        """The first two parts of a path that a room may take, `/v1/files`; empty for any other."""
        part = _part(path)
        return part if part in self._parts else ""

    async def answer(self, scope: Scope, receive: Receive, exchange: Exchange, key: KeyInfo | None) -> None:
        """Answers with the room's route, or with the 404 or 405 of one that is not there."""
        assert self._app is not None
        body = _BoundedBody(receive, int(self._settings.max_body_mib * 2**20))
        scope["state"] = {
            "settings": self._settings,
            "database": self._database,
            "key": key,
            "lift_limit": body.lift,
        }
        await self._app(scope, body, exchange.wrapped())


class _BoundedBody:
    """A `receive` that counts: a body over the limit is refused, unless its route has lifted the limit for its own."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit: int | None = limit
        self._seen = 0

    def lift(self) -> None:
        """For a route that streams its body and bounds it itself."""
        self._limit = None

    async def __call__(self) -> ASGIMessage:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._limit is not None and self._seen > self._limit:
            raise too_large(self._limit)
        return message


def broken() -> ParleyError:
    """The 500 for a fault of ours."""
    return ParleyError("Something broke here. The gateway's log has the details.")


def unknown_route(method: str, path: str) -> NotFound:
    """The 404 for a route that is not there."""
    return NotFound(f"Invalid URL ({method} {path[:200]})", code="unknown_url")


def not_allowed(method: str, *allowed: str) -> NotAllowed:
    """The 405 for a route that takes other methods."""
    takes = f" This route takes {' and '.join(allowed)}." if allowed else ""
    return NotAllowed(
        f"Not allowed: {method}.{takes}", code="method_not_allowed", headers={"allow": ", ".join(allowed)}
    )


def _part(path: str) -> str:
    return "/".join(path.split("/", 3)[:3])


def _methods(routes: "Sequence[BaseRoute]", scope: Scope) -> list[str]:
    """Every method that some route takes for this path: Starlette itself names those of the first one only."""
    from starlette.routing import Match

    found: set[str] = set()
    for route in routes:
        if route.matches(scope)[0] is not Match.NONE:
            found |= set(getattr(route, "methods", None) or ())
    return sorted(found)


def _application(routes: "Sequence[BaseRoute]") -> Any:
    """Starlette over the routes, with errors that look like ours."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response

    def shown(error: ParleyError) -> Response:
        headers = {name.decode(): value.decode() for name, value in responses.error_headers(error)}
        return Response(orjson.dumps(error.body()), error.status, headers, "application/json")

    async def told(request: Request, error: Exception) -> Response:
        assert isinstance(error, ParleyError)
        return shown(error)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return shown(unknown_route(request.method, request.url.path))
        if error.status_code == 405:
            allowed = _methods(routes, request.scope)
            answer = shown(not_allowed(request.method, *allowed))
            answer.headers["allow"] = ", ".join(allowed)
            return answer
        kind = "invalid_request_error" if error.status_code < 500 else "server_error"
        body = {"error": {"message": error.detail, "type": kind, "param": None, "code": None}}
        return JSONResponse(body, error.status_code, headers=error.headers)

    async def gone(request: Request, error: Exception) -> Response:
        # Nobody reads it: the status is for the metrics.
        return Response(status_code=499)

    async def broke(request: Request, error: Exception) -> Response:
        # Starlette raises the error again after this, so that it is logged where every other is.
        return shown(broken())

    handlers = {ParleyError: told, HTTPException: refused, ClientDisconnect: gone, Exception: broke}
    app = Starlette(routes=list(routes), exception_handlers=handlers)
    # A redirect from /v1/files/ would be a 307 without an error body; it is no route of ours.
    app.router.redirect_slashes = False
    return app
