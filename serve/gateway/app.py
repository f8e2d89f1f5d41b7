"""The gateway as one ASGI application: it authenticates a request, finds its route, and records the outcome.

Raw ASGI, because a framework's layers cost more than everything else here together. Routes of other rooms are
Starlette routes, given to `create_app` and tried after the gateway's own: see `serve.gateway.mounted_routes`.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import orjson

from models.audit import acting_as
from models.database import Database
from models.errors import ParleyError, Unavailable
from models.files.uploads import sweep_uploaded
from models.http.proxies import TrustedProxies
from models.keys import KeyInfo
from models.registry.registry import Registry
from models.settings.settings import Settings
from serve.accounting.metrics import Metrics
from serve.accounting.request_report import RequestAccounting
from serve.accounting.worker_figures import WorkerFigures
from serve.gateway import authorization, models_endpoint
from serve.gateway.addresses import DOUBLED_SLASH, correct_address, suggested_address
from serve.gateway.cors import Cors
from serve.gateway.exchange import Exchange
from serve.gateway.inference_handler import InferenceHandler
from serve.gateway.mounted_routes import MountedRoutes, internal_error, method_not_allowed, request_actor, unknown_route
from serve.gateway.snapshot import SnapshotWatcher
from serve.transport.asgi import PROMETHEUS_TEXT, Receive, Scope, Send
from serve.transport.request_bodies import ClientDisconnected
from serve.transport.worker_sockets import worker_folder
from serve.validation import request_checks

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

_MESSAGES_ROUTES = frozenset({"/v1/messages", "/v1/messages/count_tokens"})
_INFERENCE_ROUTES = _MESSAGES_ROUTES | {
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/tokenize", "/v1/rerank",
    "/v1/moderations",
}  # fmt: skip
_OWN_ROUTES = _INFERENCE_ROUTES | {"/v1/models", "/health", "/ready", "/metrics", "/openapi.json"}
_PUBLIC_ROUTES = _INFERENCE_ROUTES | {"/v1/models"}  # variants of these paths are served too: see addresses.py
_READY_TIMEOUT_S = 2.0
_MODELS = "/v1/models/"
_SWEEP_INTERVAL_S = 60.0
_log = logging.getLogger("parley.gateway")


class Gateway:
    """The ASGI application. Made by `create_app`."""

    def __init__(
        self, settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = (), worker: int = 1
    ) -> None:
        self._settings = settings
        self._database = database
        self.watcher = SnapshotWatcher(settings, database)
        self.metrics = Metrics(
            lambda: self.watcher.current.model_states(),
            lambda: self.watcher.current.replica_states,
            lambda: self._inference.running_requests(),
        )
        self._accounting = RequestAccounting(
            settings, database, self.metrics, lambda model: self.watcher.current.find_spec(model), worker
        )
        self._figures = None
        if settings.gateway_workers > 1:
            folder = worker_folder(settings.home, settings.port)
            self._figures = WorkerFigures(folder, worker, settings.gateway_workers, self.metrics)
        self._cors = Cors(settings.cors_origins)
        self._proxies = TrustedProxies(settings.trusted_proxies)
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._inference = InferenceHandler(settings, database, self.watcher, self.metrics, self._accounting)
        self._mounted = MountedRoutes(mounts, settings, database, self._inference.completions.catch_up)
        self._mounts = mounts
        self._prefixes = self._mounted.prefixes | {"/v1/models"}
        self._openapi = b""
        self._stopping = False
        self._database_check: asyncio.Task[int] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._lifespan(receive, send)
            else:
                await send({"type": "websocket.close", "code": 1000})
            return
        exchange = Exchange(send)
        if self._origins:
            exchange.response_headers = self._cors.headers(scope)
        if scope["path"] in _MESSAGES_ROUTES:
            exchange.messages_api = True
            exchange.response_headers.append((b"request-id", exchange.request_id))
        self.metrics.in_flight.inc()
        if self._proxies:
            self._proxies.apply(scope)
        try:
            await self._route(scope, receive, exchange)
        except ParleyError as error:
            await exchange.send_error(error)
        except ClientDisconnected:
            exchange.status = 499
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if exchange.client_gone:
                exchange.status = 499
            else:
                await exchange.send_error(Unavailable("The server is stopping. Try again in a moment.", retry_after=1))
        except Exception:
            _log.exception("request %s failed", exchange.request_id.decode())
            await exchange.send_error(internal_error())
        finally:
            self.metrics.in_flight.dec()
            self._accounting.record(scope, self._route_label(scope["path"]), exchange)

    def _route_label(self, path: str) -> str:
        """The route that metrics and logs name, never a client's own text."""
        if path in _OWN_ROUTES:
            return path
        if path.startswith(_MODELS):
            return "/v1/models/{model}"
        return self._mounted.route(path) or "other"

    async def _route(self, scope: Scope, receive: Receive, exchange: Exchange) -> None:
        if scope["path"] not in _OWN_ROUTES:
            self._correct_path(scope)
        request_checks.check_head(scope)
        path: str = scope["path"]
        method = scope["method"]
        snapshot = self.watcher.current
        if path == "/health":
            _check_method(method, "GET", "HEAD")
            await exchange.send_json({"status": "ok"})
            return
        if path == "/ready":
            _check_method(method, "GET", "HEAD")
            await self._check_ready()
            await exchange.send_json({"status": "ready"})
            return
        if method == "OPTIONS" and (allowed := self._cors.preflight(scope)) is not None:
            await exchange.send_response(200, b"", PROMETHEUS_TEXT, allowed)
            return
        key = authorization.authenticate(scope, snapshot)
        exchange.key = key
        if key is None:
            request_checks.check_cross_site(scope, self._origins)
        if path in _INFERENCE_ROUTES and not (method == "GET" and self._mounted.lists(path)):
            _check_method(method, "POST")
            await self._inference.handle(scope, receive, exchange, key)
        elif path == "/v1/models":
            _check_method(method, "GET")
            await exchange.send_json(models_endpoint.list_models(snapshot, key))
        elif path.startswith(_MODELS):
            _check_method(method, "GET", "DELETE")
            with acting_as(request_actor(scope, key)):
                await self._model(method, path[len(_MODELS) :], key, exchange)
        elif path == "/openapi.json":
            _check_method(method, "GET")
            await exchange.send_response(200, await self._document())
        elif path == "/metrics":
            _check_method(method, "GET")
            authorization.require_owner(key)
            text = self.metrics.text() if self._figures is None else await self._figures.text()
            await exchange.send_response(200, text, PROMETHEUS_TEXT)
        elif self._mounted.matches(path):
            if not self._mounted.is_for_clients(path):
                authorization.require_owner(key)
            await self._mounted.handle(scope, receive, exchange, key)
        else:
            raise unknown_route(method, path, suggested_address(path, self._prefixes, _PUBLIC_ROUTES))

    def _correct_path(self, scope: Scope) -> None:
        """Replaces a variant of a public route's path by that path. Raises NotFound for a variant of another route."""
        path: str = scope["path"]
        if (correct := correct_address(scope, _PUBLIC_ROUTES)) is not None:
            scope["path"], scope["raw_path"] = correct, correct.encode()
            return
        doubled = DOUBLED_SLASH.match(path)
        suggestion = suggested_address(path, self._prefixes, _PUBLIC_ROUTES) if doubled else None
        if suggestion is not None and b"%" not in scope["raw_path"]:
            raise unknown_route(scope["method"], path, suggestion)

    async def _check_ready(self) -> None:
        """Raises Unavailable if a load balancer should send requests elsewhere for now."""
        if self._stopping:
            raise Unavailable("The server is stopping.", retry_after=1)
        # One check at a time: a database that hangs must not take up every thread, because DNS lookups need them too.
        check = self._database_check
        if check is None or check.done():
            check = self._database_check = asyncio.create_task(asyncio.to_thread(Registry(self._database).revision))
        done, _ = await asyncio.wait({check}, timeout=_READY_TIMEOUT_S)
        if not done:
            raise Unavailable("The database does not answer in time.", retry_after=1)
        try:
            check.result()
        except ParleyError as error:
            raise Unavailable(f"The database does not answer: {error}", retry_after=1) from error

    def begin_shutdown(self) -> None:
        """Makes `/ready` answer 503 from now on."""
        self._stopping = True

    async def _document(self) -> bytes:
        """The OpenAPI document, built at the first request for it."""
        if not self._openapi:
            from serve.openapi.document import openapi_document

            self._openapi = orjson.dumps(await asyncio.to_thread(openapi_document, self._mounts))
        return self._openapi

    async def _model(self, method: str, name: str, key: KeyInfo | None, exchange: Exchange) -> None:
        """Retrieves or deletes a model. Ids may contain `/` (`%2F`) and `:`, so the rest of the path is the name."""
        if method == "DELETE":
            authorization.require_owner(key)
            registry = Registry(self._database)
            answer = await asyncio.to_thread(models_endpoint.delete_model, registry, self.watcher.current, name)
            # The next request must not find the model any more.
            await self.watcher.catch_up()
        else:
            answer = models_endpoint.retrieve_model(self.watcher.current, name, key)
        await exchange.send_json(answer)

    async def _sweep_uploads(self) -> None:
        """Deletes expired uploads. The gateway does it because it always runs where files are uploaded."""
        while True:
            try:
                await asyncio.to_thread(sweep_uploaded, self._settings, self._database)
            except ParleyError as error:
                _log.warning("expired files cannot be deleted yet: %s", error)
            except Exception:
                _log.exception("deleting expired files failed")
            await asyncio.sleep(_SWEEP_INTERVAL_S)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        sweeper: asyncio.Task[None] | None = None
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.watcher.start()
                    await self._accounting.open()
                    await self._inference.open()
                    if self._figures is not None:
                        await self._figures.start()
                except ParleyError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                sweeper = asyncio.create_task(self._sweep_uploads())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if sweeper is not None:
                    sweeper.cancel()
                self.watcher.stop()
                await self._inference.close()
                await self._accounting.close()
                if self._figures is not None:
                    await self._figures.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_app(settings: Settings, database: Database, mounts: "Sequence[BaseRoute]" = (), worker: int = 1) -> Gateway:
    """The gateway over one database.

    Args:
        mounts: Starlette routes of other rooms, open to owners only: see `serve.gateway.mounted_routes`.
        worker: this process's number among the `gateway_workers` of its port.
    """
    return Gateway(settings, database, mounts, worker)


def _check_method(method: str, *allowed: str) -> None:
    if method not in allowed:
        raise method_not_allowed(method, *allowed)
