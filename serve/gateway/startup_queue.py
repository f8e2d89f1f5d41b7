"""Requests for a model whose engine is not running: they request its start and wait in a bounded queue."""

import asyncio

from models.database import Database
from models.errors import MODEL_STARTING, Busy, ParleyError, Unavailable
from models.settings.settings import Settings
from serve.accounting.metrics import Metrics
from serve.fleet import engine_states
from serve.gateway.authorization import model_not_found
from serve.gateway.model_request import ModelRequest
from serve.gateway.snapshot import Route, SnapshotWatcher

_DEMAND_INTERVAL_S = 2.0
_RESTART_NOTICED_S = 2.0  # the supervisor notices the end of an engine within 0.5 s, and the watcher polls its rows


class NotRunning(Unavailable):
    """The model's engine has failed, or did not start in time: a fallback may answer."""


class StartupQueueFull(Busy):
    """Too many requests are waiting for the model's engine to start: a fallback may answer."""


class StartupQueue:
    """One per gateway."""

    def __init__(self, settings: Settings, database: Database, watcher: SnapshotWatcher, metrics: Metrics) -> None:
        self._settings = settings
        self._database = database
        self._watcher = watcher
        self._metrics = metrics
        self._waiting: dict[str, int] = {}
        self._demanded_at: dict[str, float] = {}

    async def wait_until_running(self, request: ModelRequest) -> ModelRequest:
        """The same request with the route of its running model. A client that disconnects cancels the wait.

        Raises:
            StartupQueueFull, NotRunning. NotFound: the model was retired meanwhile.
        """
        name = request.route.spec.id
        self._demand(name)
        _check_not_failed(request.route)
        # Rows of batches leave most of the queue to other requests.
        most = self._settings.queue_size // 4 if request.batch else self._settings.queue_size
        if self._waiting.get(name, 0) >= max(most, 1):
            raise StartupQueueFull(
                f"Too many requests wait for {name!r} to start. Try again later.", code=MODEL_STARTING, retry_after=5
            )
        self._waiting[name] = self._waiting.get(name, 0) + 1
        self._metrics.waiting.inc(name)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self._settings.queue_wait_s
        try:
            while (remaining_s := deadline - loop.time()) > 0:
                await self._watcher.changed(min(remaining_s, 1.0))
                route = self._current_route(name)
                if route.address is not None:
                    return request._replace(route=route)
                _check_not_failed(route)
                # Again, because the engine may have been stopped to make room since the first demand.
                self._demand(name)
            raise NotRunning(
                f"The model {name!r} is starting. Try again in a moment.",
                # Without a supervisor it stays stopped, and waiting does not help.
                code=MODEL_STARTING if self._current_route(name).state.state == "starting" else None,
                retry_after=5,
            )
        finally:
            self._metrics.waiting.dec(name)
            self._metrics.queued(name, loop.time() - began)
            self._waiting[name] -= 1

    async def wait_for_restart(self, request: ModelRequest) -> ModelRequest:
        """The same request after its engine was unreachable: with its new route if the engine restarts.

        An engine that has ended is reported as starting within moments. If nothing is reported, the request is
        returned unchanged.

        Raises:
            StartupQueueFull, NotRunning, NotFound: as `wait_until_running`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _RESTART_NOTICED_S
        while (remaining_s := deadline - loop.time()) > 0:
            await self._watcher.changed(remaining_s)
            route = self._current_route(request.route.spec.id)
            if route.address is None:
                return await self.wait_until_running(request._replace(route=route))
            if request.route.address not in [target.address for target in route.targets]:
                return request._replace(route=route)
        return request

    def _current_route(self, name: str) -> Route:
        route = self._watcher.current.routes.get(name)
        if route is None:
            raise model_not_found(name)
        return route

    def _demand(self, name: str) -> None:
        """Writes a demand row for the supervisor, at most every two seconds, without waiting for the database."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._demanded_at.get(name, -_DEMAND_INTERVAL_S) < _DEMAND_INTERVAL_S:
            return
        self._demanded_at[name] = loop.time()
        loop.run_in_executor(None, _record_demand, self._database, name)


def _check_not_failed(route: Route) -> None:
    if route.state.state == "failed":
        raise NotRunning(f"The model {route.spec.id!r} is not running: {route.state.message}", retry_after=30)


def _record_demand(database: Database, name: str) -> None:
    try:
        engine_states.record_demand(database, name)
    except ParleyError:
        return
