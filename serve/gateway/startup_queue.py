"""Requests for a model that does not run yet: they ask for it, and wait in a queue with an end."""

import asyncio

from models.database import Database
from models.errors import Busy, ParleyError, Unavailable
from models.settings import Settings
from serve.accounting.metrics import Metrics
from serve.fleet import engine_states
from serve.gateway.authorization import no_model
from serve.gateway.model_request import Asked
from serve.gateway.snapshot import Watcher

_DEMAND_EVERY_S = 2.0
_NOTICED_S = 2.0  # the supervisor sees an engine's end within half a second, and the watcher what it writes


class Starting:
    """One for each gateway."""

    def __init__(self, settings: Settings, database: Database, watcher: Watcher, metrics: Metrics) -> None:
        self._settings = settings
        self._database = database
        self._watcher = watcher
        self._metrics = metrics
        self._waiting: dict[str, int] = {}
        self._demanded: dict[str, float] = {}

    async def runnable(self, asked: Asked) -> Asked:
        """The same request, once its model runs. A client that goes meanwhile cancels this.

        Raises:
            Busy: the queue is full. Unavailable: the model does not run, and nothing says that it soon will.
            NotFound: it was taken away meanwhile.
        """
        name = asked.route.spec.id
        self._ask_for(name)
        if asked.route.state.state == "failed":
            raise Unavailable(f"The model {name!r} does not run: {asked.route.state.message}", retry_after=30)
        if self._waiting.get(name, 0) >= self._settings.queue_size:
            raise Busy(f"Too many requests wait for {name!r} to start. Try again later.", retry_after=5)
        self._waiting[name] = self._waiting.get(name, 0) + 1
        self._metrics.waiting.inc(name)
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + self._settings.queue_wait_s
        try:
            while (left := deadline - loop.time()) > 0:
                await self._watcher.changed(min(left, 1.0))
                route = self._watcher.current.routes.get(name)
                if route is None:
                    raise no_model(name)
                if route.address is not None:
                    return asked._replace(route=route)
                if route.state.state == "failed":
                    raise Unavailable(f"The model {name!r} does not run: {route.state.message}", retry_after=30)
                # Again: it may have been stopped to make room after the note that this request left.
                self._ask_for(name)
            raise Unavailable(f"The model {name!r} is starting. Try again in a moment.", retry_after=5)
        finally:
            self._metrics.waiting.dec(name)
            self._metrics.queued(name, loop.time() - began)
            self._waiting[name] -= 1

    async def again(self, asked: Asked) -> Asked:
        """The same request after its engine could not be reached: once it runs again, if it is being started again.

        An engine that has ended is soon said to be starting. One of which nothing else is said soon is asked as it is.

        Raises:
            Busy, Unavailable, NotFound: as `runnable`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _NOTICED_S
        while (left := deadline - loop.time()) > 0:
            await self._watcher.changed(left)
            route = self._watcher.current.routes.get(asked.route.spec.id)
            if route is None:
                raise no_model(asked.route.spec.id)
            if route.address is None:
                return await self.runnable(asked._replace(route=route))
            if route.address != asked.route.address:
                return asked._replace(route=route)
        return asked

    def _ask_for(self, name: str) -> None:
        """Leaves the supervisor a note, every few seconds at the most, and does not wait until it is written."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._demanded.get(name, -_DEMAND_EVERY_S) < _DEMAND_EVERY_S:
            return
        self._demanded[name] = loop.time()
        loop.run_in_executor(None, _note_demand, self._database, name)


def _note_demand(database: Database, name: str) -> None:
    try:
        engine_states.demand(database, name)
    except ParleyError:
        return
