"""Sends a request to its model's server: concurrency limits, circuit breakers, and the cases that are retried.

Nothing is retried once a byte of the response has gone to the client, and a request that an upstream may have billed is
never sent to that upstream again. Fallback models are in `serve.gateway.fallbacks`, the replicas of a model in
`serve.gateway.replica_dispatcher`.
"""

import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from models.database import Database
from models.errors import ParleyError
from models.settings.settings import Settings
from serve.accounting.metrics import Metrics
from serve.fleet.replica_names import replica_name
from serve.gateway.exchange import Exchange
from serve.gateway.model_request import ModelRequest
from serve.gateway.replica_dispatcher import ReplicaDispatcher
from serve.gateway.response_forwarder import forward
from serve.gateway.server_limits import CircuitBreaker, ConcurrencyLimiter
from serve.gateway.snapshot import Route, SnapshotWatcher
from serve.gateway.startup_queue import StartupQueue
from serve.gateway.upstream_errors import UpstreamDown, upstream_down
from serve.transport.engine_client import EngineConnection, EnginePool, Unreachable
from serve.transport.engine_tls import engine_tls
from serve.transport.timeouts import timeouts_from
from serve.transport.upstream_client import ServerResponse, UpstreamClient

# Shorter than the engines' own keep-alive (see `serve.fleet.vllm_command`), so that we close idle connections first.
_IDLE_LIMIT_S = 15.0
# Each row makes an engine's steps longer, on a CPU by much. vLLM runs 128 requests at once on a CPU, 256 or more on a
# GPU: an interactive request must find a place.
_BATCH_ROWS_ON_CPU, _BATCH_ROWS_ON_GPU = 16, 128


@dataclass(frozen=True, slots=True)
class _Server:
    """The limits of one engine or upstream. `engine`: the engine's name, empty for an upstream."""

    limiter: ConcurrencyLimiter
    breaker: CircuitBreaker
    engine: str


class Dispatcher:
    """The connections to engines and upstreams. `open` and `close` run with the event loop."""

    def __init__(self, settings: Settings, database: Database, watcher: SnapshotWatcher, metrics: Metrics) -> None:
        self._settings = settings
        self._watcher = watcher
        self._metrics = metrics
        self._max_batch_rows = _batch_rows_beside_others(settings)
        self._startup_queue = StartupQueue(settings, database, watcher, metrics)
        self._replicas = ReplicaDispatcher(self.dispatch, self._load, self._startup_queue, database, metrics)
        self._servers: dict[tuple[str, str | None], _Server] = {}
        self._engines = EnginePool(timeouts_from(settings), idle_limit_s=_IDLE_LIMIT_S, tls=engine_tls(settings))
        self._upstreams = UpstreamClient(timeouts_from(settings))

    def open(self) -> None:
        """Creates the connections to upstreams; those to engines follow when they are needed."""
        self._upstreams.open()

    async def close(self) -> None:
        """Closes the pools."""
        self._engines.close()
        await self._upstreams.close()

    def running_requests(self) -> Iterator[tuple[str, int]]:
        """(engine's name, running requests) of each engine and replica. Forgets servers that are gone."""
        self._remove_old_servers()
        engines = {server.engine: server.limiter.running for server in self._servers.values() if server.engine}
        yield from engines.items()

    async def dispatch(
        self, request: ModelRequest, exchange: Exchange, *, has_fallback: bool = False, has_replica: bool = False
    ) -> None:
        """Sends a request to its model's server and forwards the response.

        Args:
            has_fallback: also raise UpstreamDown where the server answers with 429 or 5xx.
            has_replica: raise UpstreamDown where the engine fails before the first byte of its response: another
                replica of the model can answer.

        Raises:
            ParleyError: before the response has started; after that the error is in the stream.
        """
        if request.route.address is None:
            request = await self._startup_queue.wait_until_running(request)
        route = request.route
        if route.replicas is not None:
            await self._replicas.dispatch(request, exchange, has_fallback=has_fallback)
            return
        server = self._servers.get((route.spec.id, route.address)) or self._add_server(route)
        breaker, limiter, hosted = server.breaker, server.limiter, route.hosted
        breaker.check()
        try:
            if request.batch:
                limiter.acquire_for_batch()
            elif limiter.available:
                limiter.acquire_nowait()
            else:
                await self._queue(limiter, route)
        except BaseException:
            breaker.record_cancelled()
            raise
        try:
            exchange.dispatched = True
            if hosted:
                response = await self._post_upstream(request, breaker)
            else:
                try:
                    response = await self._engines.post(*_post_arguments(request))
                except BaseException as error:
                    response = await self._retry_engine(request, breaker, error, has_replica=has_replica)
            try:
                status = response.status
                # An engine's 500 may be due to the request: some of these must not keep all others from its replicas.
                if status >= 500 and hosted:
                    breaker.record_failure()
                else:
                    breaker.record_success()
                if has_fallback or has_replica:
                    self._check_status(route, status, has_fallback=has_fallback)
                    if has_replica:
                        await self._wait_for_body(route, breaker, response)
                exchange.response_headers.append((b"x-parley-model", route.spec.id.encode()))
                if not await forward(self._metrics, request, response, exchange):
                    breaker.record_failure()
            finally:
                response.release()
        finally:
            if request.batch:
                limiter.release_for_batch()
            else:
                limiter.release()

    def _check_status(self, route: Route, status: int, *, has_fallback: bool) -> None:
        """Raises UpstreamDown for a status after which another server should answer."""
        if status >= 500 or (has_fallback and status == 429):
            self._metrics.failed(route.spec.id, str(status))
            raise UpstreamDown(f"The server of {route.spec.id!r} answers with status {status}.")

    async def _wait_for_body(self, route: Route, breaker: CircuitBreaker, response: ServerResponse) -> None:
        """Waits for the first piece: until then nothing has gone to the client, and another replica can answer."""
        assert isinstance(response, EngineConnection)  # hosted models have no replicas
        try:
            await response.wait_for_body()
        except BaseException as error:
            self._record_failure(route, breaker, error)
            raise

    async def _post_upstream(self, request: ModelRequest, breaker: CircuitBreaker) -> ServerResponse:
        route = request.route
        upstream = route.spec.upstream
        if upstream is not None and upstream.credential and route.authorization is None:
            breaker.record_cancelled()
            raise UpstreamDown(
                f"The upstream of {route.spec.id!r} needs a key: set {upstream.credential} before you start Parley."
            )
        try:
            return await self._upstreams.post(*_post_arguments(request))
        except BaseException as error:
            self._record_failure(route, breaker, error)
            raise

    async def _retry_engine(
        self, request: ModelRequest, breaker: CircuitBreaker, error: BaseException, *, has_replica: bool
    ) -> ServerResponse:
        """Sends the request again if its engine was unreachable: the engine may be restarting."""
        try:
            if has_replica or not isinstance(error, Unreachable):
                raise error
            while True:
                waited = await self._startup_queue.wait_for_restart(request)
                try:
                    return await self._engines.post(*_post_arguments(waited))
                except Unreachable:
                    # Another address: that of a replica that has ended too, which is not reported yet.
                    if waited.route.address == request.route.address:
                        raise
                    request = waited
        except BaseException as last:
            self._record_failure(request.route, breaker, last)
            raise

    def _record_failure(self, route: Route, breaker: CircuitBreaker, error: BaseException) -> None:
        """Records a request without a response. Raises UpstreamDown if the server was at fault."""
        if isinstance(error, ParleyError) or not isinstance(error, OSError):
            breaker.record_cancelled()
            return
        breaker.record_failure()
        if isinstance(error, TimeoutError):
            raise upstream_down(self._metrics, route, "timeout", "did not answer in time") from error
        raise upstream_down(self._metrics, route, "connect", "cannot be reached") from error

    async def _queue(self, limiter: ConcurrencyLimiter, route: Route) -> None:
        self._metrics.waiting.inc(route.spec.id)
        began = time.monotonic()
        try:
            await limiter.acquire()
        finally:
            self._metrics.waiting.dec(route.spec.id)
            self._metrics.queued(route.spec.id, time.monotonic() - began)

    def _add_server(self, route: Route) -> _Server:
        """The limits for a server's first request. Adapters share the limiter of their base's engine."""
        settings = self._settings
        self._remove_old_servers()
        on_engine = () if route.hosted else self._servers.items()
        shared = next((server.limiter for (_, address), server in on_engine if address == route.address), None)
        limiter = shared or ConcurrencyLimiter(
            route.spec.id,
            max_running=settings.running_per_model,
            max_queued=settings.queue_size,
            timeout_s=settings.queue_wait_s,
            max_batch_rows=self._max_batch_rows,
        )
        name = replica_name(route.spec.id, route.replica)
        server = _Server(limiter, CircuitBreaker(name, self._metrics.breaker), route.engine)
        self._servers[route.spec.id, route.address] = server
        self._metrics.breaker(name, "closed")
        return server

    def _remove_old_servers(self) -> None:
        """Forgets the limits of servers that no route leads to, once they run nothing."""
        routes = self._watcher.current.routes.values()
        current = {(target.spec.id, target.address) for other in routes for target in other.targets}
        # An adapter's limiter is also that of its base and of the base's other adapters.
        kept = {id(server.limiter) for key, server in self._servers.items() if key in current}
        limiters = {key: self._servers[key].limiter for key in self._servers.keys() - current}
        old = [key for key, limiter in limiters.items() if id(limiter) in kept or not limiter.load]
        names = {self._servers.pop(key).breaker.name for key in old}
        # A replica that has restarted has another address and the same name.
        for name in names - {server.breaker.name for server in self._servers.values()}:
            self._metrics.breaker_removed(name)

    def _load(self, route: Route) -> float:
        """The requests that a server runs or has queued; infinite while its circuit breaker is open."""
        server = self._servers.get((route.spec.id, route.address)) or self._add_server(route)
        return math.inf if server.breaker.rejects_requests else server.limiter.load


def _batch_rows_beside_others(settings: Settings) -> int:
    """How many rows of batches run on a server while others use it."""
    if settings.batch_rows_beside_others is not None:
        return settings.batch_rows_beside_others
    on_gpus = settings.ray_address or settings.device == "cuda"
    if on_gpus or (settings.device == "auto" and shutil.which("nvidia-smi")):
        return _BATCH_ROWS_ON_GPU
    return _BATCH_ROWS_ON_CPU


def _post_arguments(request: ModelRequest) -> tuple[str, str, bytes, str | None]:
    route = request.route
    assert route.address is not None
    address, path = route.address, request.path[3:]  # the address already ends in /v1
    if path == "/tokenize" and not route.hosted:
        address = address.removesuffix("/v1")  # where vLLM has it
    return address, path, request.body, route.authorization
