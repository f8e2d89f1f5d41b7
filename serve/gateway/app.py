"""The gateway: one ASGI application that finds the route, asks for the key, and hands on. The work is elsewhere.

Raw ASGI, because a framework's layers cost more than everything else here together. Routes of other rooms are
Starlette's, given to `create_app`, and found after our own: see serve/gateway/mounted_routes.py.
"""

import asyncio
import gc
import logging
import math
import resource
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from models.database import Database
from models.errors import NotFound, ParleyError, Unavailable
from models.keys import KeyInfo
from models.registry import Registry
from models.settings import Settings
from models.uploads import sweep_uploaded
from serve.accounting.metrics import Metrics
from serve.accounting.request_accounting import Ledger
from serve.gateway import authorization, models_endpoint
from serve.gateway.cors import Cors
from serve.gateway.inference_handler import Relay
from serve.gateway.mounted_routes import Mounted, broken, not_allowed, unknown_route
from serve.gateway.snapshot import Watcher
from serve.transport import responses
from serve.transport.listen_sockets import door_of
from serve.transport.request_bodies import ClientGone
from serve.transport.responses import Exchange, Receive, Scope, Send
from serve.validation import request_checks

if TYPE_CHECKING:
    import uvicorn
    from starlette.routing import BaseRoute

_RELAYED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
_OWN = _RELAYED | {"/v1/models", "/health", "/ready", "/metrics", "/openapi.json"}
_READY_S = 2.0  # what the database may take to answer
_COLLECTIONS = (50_000, 20, 50)  # requests leave hardly any cycles behind
_FILES = 65_536  # a stream needs two
_OWN_FILES = 128  # logs, the database, the loop
_MODELS = "/v1/models/"
_KEPT = "/v1/responses" + "/"
_SWEEP_S = 60.0
_log = logging.getLogger("parley.gateway")


class Gateway:
    """The ASGI application. Made by `create_app`."""

    def __init__(self, settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = ()) -> None:
        self._settings = settings
        self._database = database
        self.watcher = Watcher(settings, database)
        self.metrics = Metrics(lambda: self.watcher.current)
        self._ledger = Ledger(settings, database, self.watcher, self.metrics)
        self._cors = Cors(settings.cors_origins)
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._relay = Relay(settings, database, self.watcher, self.metrics, self._ledger)
        self._mounted = Mounted(mounts, settings, database)
        self._mounts = mounts
        self._openapi = b""
        self._stopping = False
        self._look: asyncio.Task[int] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(receive, send)
            else:
                await send({"type": "websocket.close", "code": 1000})
            return
        exchange = Exchange(send)
        exchange.extra = self._cors.headers(scope)
        self.metrics.in_flight.inc()
        try:
            await self._answer(scope, receive, exchange)
        except ParleyError as error:
            await exchange.error(error)
        except ClientGone:
            exchange.status = 499
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if exchange.gone:
                exchange.status = 499
            else:
                await exchange.error(Unavailable("The server stops. Try again in a moment.", retry_after=1))
        except Exception:
            _log.exception("request %s broke", exchange.request_id.decode())
            await exchange.error(broken())
        finally:
            self.metrics.in_flight.dec()
            self._note(scope, exchange)

    def _note(self, scope: Scope, exchange: Exchange) -> None:
        """A request is over, whatever became of it: here it gets its figures, and its one line in the log."""
        path = scope["path"]
        if path in _OWN:
            route = path
        elif path.startswith(_MODELS):
            route = "/v1/models/{model}"
        else:
            route = self._mounted.route(path) or "other"
        self._ledger.note(scope, route, exchange)

    async def _answer(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        request_checks.check_scope(scope)
        path: str = scope["path"]
        method = scope["method"]
        snapshot = self.watcher.current
        if path == "/health":
            _expect(method, "GET", "HEAD")
            await exchange.json({"status": "ok"})
            return
        if path == "/ready":
            _expect(method, "GET", "HEAD")
            await self._ready()
            await exchange.json({"status": "ready"})
            return
        if method == "OPTIONS" and (allowed := self._cors.preflight(scope)) is not None:
            await exchange.whole(200, b"", responses.TEXT, allowed)
            return
        key = authorization.admit(scope, snapshot)
        exchange.key = key
        if key is None:
            request_checks.check_visitor(scope, self._origins)
        if path in _RELAYED:
            _expect(method, "POST")
            await self._relay.answer(scope, receive, exchange, key)
        elif path == "/v1/models":
            _expect(method, "GET")
            await exchange.json(models_endpoint.model_list(snapshot, key))
        elif path.startswith(_MODELS):
            _expect(method, "GET", "DELETE")
            await self._model(method, path[len(_MODELS) :], key, exchange)
        elif path.startswith(_KEPT):
            raise NotFound(
                f"There is no response {path[len(_KEPT) :].partition('/')[0]!r} here: none are kept. "
                "Send the whole conversation with each request."
            )
        elif path == "/openapi.json":
            _expect(method, "GET")
            await exchange.whole(200, await self._document())
        elif path == "/metrics":
            _expect(method, "GET")
            authorization.owner_only(key)
            await exchange.whole(200, self.metrics.text(), responses.TEXT)
        elif self._mounted.knows(path):
            authorization.owner_only(key)
            await self._mounted.answer(scope, receive, exchange, key)
        else:
            raise unknown_route(method, path)

    async def _ready(self) -> None:
        """Raises Unavailable where requests had better go elsewhere for now."""
        if self._stopping:
            raise Unavailable("The server stops.", retry_after=1)
        # One look at a time, whoever asks: a database that hangs shall not hold every thread there is, names of
        # upstreams are looked up in the same ones.
        look = self._look
        if look is None or look.done():
            look = self._look = asyncio.create_task(asyncio.to_thread(Registry(self._database).revision))
        done, _ = await asyncio.wait({look}, timeout=_READY_S)
        if not done:
            raise Unavailable("The database does not answer in time.", retry_after=1)
        try:
            look.result()
        except ParleyError as error:
            raise Unavailable(f"The database does not answer: {error}", retry_after=1) from error

    def stops(self) -> None:
        """The server has been told to end: it is not ready for more."""
        self._stopping = True

    async def _document(self) -> bytes:
        """The OpenAPI document, made when somebody first asks for it."""
        if not self._openapi:
            from serve.openapi.document import openapi_document

            self._openapi = orjson.dumps(await asyncio.to_thread(openapi_document, self._mounts))
        return self._openapi

    async def _model(self, method: str, name: str, key: KeyInfo | None, exchange: Exchange) -> None:
        """One model, retrieved or deleted. Ids may hold `/` (`%2F`) and `:`: all of the path is the name."""
        if method == "DELETE":
            authorization.owner_only(key)
            answer = await asyncio.to_thread(models_endpoint.delete, Registry(self._database), name)
            # Whoever asks for it next, in the same breath, shall not find it.
            await self.watcher.catch_up()
        else:
            answer = models_endpoint.model(self.watcher.current, name, key)
        await exchange.json(answer)

    async def _keep_house(self) -> None:
        """Removes uploaded files whose time is over: here, because here they come in, whatever else runs."""
        while True:
            try:
                await asyncio.to_thread(sweep_uploaded, self._settings, self._database)
            except ParleyError as error:
                _log.warning("expired files stay for now: %s", error)
            except Exception:
                _log.exception("removing expired files broke")
            await asyncio.sleep(_SWEEP_S)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        housekeeping: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.watcher.start()
                    await self._ledger.open()
                    await self._relay.open()
                except ParleyError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                housekeeping = asyncio.create_task(self._keep_house())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if housekeeping is not None:
                    housekeeping.cancel()
                self.watcher.stop()
                await self._relay.close()
                await self._ledger.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_app(settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = ()) -> Gateway:
    """The gateway over one database.

    Args:
        mounts: Starlette routes of other rooms, open to owners only: see `serve.gateway.mounted_routes`.
    """
    return Gateway(settings, database, mounts)


def run(settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = (), door: Sequence[int] = ()) -> None:
    """Serves until SIGTERM or Ctrl-C; running answers get `stop_grace_s` to end.

    Args:
        door: numbers of listening sockets that were handed down; without any it opens its own.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    server = make_server(create_app(settings, database, mounts), settings)
    # What is there now stays: looked through by each full collection, it cost a fifth of all a request takes.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
    server.run(sockets=door_of(door) or None)


def most_clients() -> int:
    """How many clients may be connected: each may need a file for an upstream too, and the house some for itself."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max((soft - _OWN_FILES) // 2, 1)


def make_server(app: Gateway, settings: Settings) -> "uvicorn.Server":
    """The gateway's server over the settings' address, not running yet."""
    import uvicorn

    from serve.transport.http_protocol import Front
    from serve.transport.server import Server

    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Front,
        ws="none",
        lifespan="on",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level=settings.log_level,
        limit_concurrency=most_clients(),
        timeout_graceful_shutdown=math.ceil(settings.stop_grace_s),
        backlog=4096,
    )
    return Server(config, app.stops)


def _expect(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise not_allowed(method, *allowed)
