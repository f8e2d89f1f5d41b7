"""Chooses a replica for each request to a model that has several, and another one if that fails.

The least loaded replica gets a request, unless another one has the conversation's prefix in its cache and hardly more
load. Nothing is sent a second time once a byte of the response has gone to the client.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from models.database import Database
from models.errors import ParleyError, Unavailable
from serve.accounting.metrics import Metrics
from serve.fleet import engine_states
from serve.gateway.conversations import ConversationReplicas
from serve.gateway.exchange import Exchange
from serve.gateway.model_request import ModelRequest
from serve.gateway.snapshot import Route
from serve.gateway.startup_queue import StartupQueue
from serve.transport.engine_client import ConnectionBroken, Unreachable

# A replica that has the conversation's prefix cached may have this many requests more than the least loaded one.
_SLACK = 4
_SPREAD_INTERVAL_S = 5.0
_USE_INTERVAL_S = 60.0  # well below the time after which `serve.fleet.adapter_placement` takes an adapter for idle


Record = Callable[[Database, str], None]


class Send(Protocol):
    """Sends a request to the server of its route, and forwards the response."""

    async def __call__(
        self, request: ModelRequest, exchange: Exchange, *, has_fallback: bool, has_replica: bool
    ) -> None:
        """As `serve.gateway.dispatcher.Dispatcher.dispatch`."""


class ReplicaDispatcher:
    """One per gateway. `load`: a server's running and queued requests; infinite while it gets no requests."""

    def __init__(
        self,
        send: Send,
        load: Callable[[Route], float],
        startup_queue: StartupQueue,
        database: Database,
        metrics: Metrics,
    ) -> None:
        self._send = send
        self._load = load
        self._startup_queue = startup_queue
        self._database = database
        self._metrics = metrics
        self._conversations = ConversationReplicas()
        self._turn = 0
        self._recorded_at: dict[tuple[str, Record], float] = {}

    async def dispatch(self, request: ModelRequest, exchange: Exchange, *, has_fallback: bool) -> None:
        """Sends a request to one replica after another until one has begun its response.

        A request that may have had an effect on a replica is sent to only one other, because it may crash engines.

        Raises:
            ParleyError: as `Dispatcher.dispatch`.
        """
        headers, tried, resent = list(exchange.response_headers), set(), False
        self._turn += 1
        while True:
            route = self._choose(request, tried)
            tried.add(route.address)
            left = sum(other.address not in tried for other in request.route.targets)
            try:
                await self._send(
                    request._replace(route=route),
                    exchange,
                    has_fallback=has_fallback,
                    has_replica=left > 0 and not resent,
                )
                return
            except Unavailable as error:
                cause = error.__cause__
                if exchange.started or resent or isinstance(cause, TimeoutError):
                    raise
                if not left:
                    # An adapter that only this replica had loaded is being loaded on another one.
                    if not isinstance(cause, ConnectionBroken):
                        raise
                    request = await self._startup_queue.wait_for_restart(request._replace(route=route))
                    if route.address in (target.address for target in request.route.targets):
                        raise
                    tried = set()
                resent = not isinstance(cause, Unreachable)
            self._metrics.retried(route.spec.id)
            exchange.response_headers = list(headers)

    def _choose(self, request: ModelRequest, tried: Collection[str | None]) -> Route:
        targets = [target for target in request.route.targets if target.address not in tried]
        turn = self._turn % len(targets)
        # In turn, where several are equally loaded.
        loads = [(self._load(target), target) for target in (*targets[turn:], *targets[:turn])]
        least, chosen = min(loads, key=lambda pair: pair[0])
        conversation = request.conversation
        if conversation is not None:
            address = self._conversations.find(conversation)
            cached = next(
                (target for load, target in loads if target.address == address and load <= least + _SLACK), None
            )
            chosen = cached or chosen
            if chosen.address is not None:
                self._conversations.remember(conversation, chosen.address)
        replicas = request.route.replicas
        loaded = len(request.route.targets)  # of a base, all that run
        if replicas is not None and loaded < replicas.running and least >= replicas.target_running:
            self._record(engine_states.record_spread, chosen.spec.id, _SPREAD_INTERVAL_S)
        elif loaded > 1 and chosen.spec.kind == "adapter":
            self._record(engine_states.record_use, chosen.spec.id, _USE_INTERVAL_S)
        return chosen

    def _record(self, record: Record, adapter: str, interval_s: float) -> None:
        """Writes a demand for an adapter, at most once in an interval, without waiting for the database."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._recorded_at.get((adapter, record), -interval_s) < interval_s:
            return
        self._recorded_at[adapter, record] = loop.time()
        loop.run_in_executor(None, _try_to_record, record, self._database, adapter)


def _try_to_record(record: Record, database: Database, adapter: str) -> None:
    with suppress(ParleyError):
        record(database, adapter)
