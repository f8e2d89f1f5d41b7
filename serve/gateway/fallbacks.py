"""Fallbacks: another model answers while the requested one is down or over its limits.

Fallbacks are tried in order while the model before them is unreachable, times out, has an open circuit breaker, answers
with 429 or 5xx, or is a local model that did not start within the limits of its queue; always before a byte has been
sent to the client. Running fallbacks are tried first; the others are waited for as if the client had requested them.
"""

from collections.abc import Iterator

from models.keys import KeyInfo
from serve.accounting.metrics import Metrics
from serve.accounting.rate_limits import can_pay
from serve.gateway import authorization
from serve.gateway.dispatcher import Dispatcher
from serve.gateway.exchange import Exchange
from serve.gateway.model_request import ModelRequest, redirect_request
from serve.gateway.snapshot import Route, SnapshotWatcher
from serve.gateway.startup_queue import NotRunning, StartupQueueFull
from serve.gateway.upstream_errors import UpstreamDown


class FallbackDispatcher:
    """Dispatches each request to its model or to the first of its fallbacks that answers."""

    def __init__(self, dispatcher: Dispatcher, watcher: SnapshotWatcher, metrics: Metrics) -> None:
        self._dispatcher = dispatcher
        self._watcher = watcher
        self._metrics = metrics

    async def dispatch(self, request: ModelRequest, exchange: Exchange, key: KeyInfo | None) -> None:
        """Sends a request and forwards the response. For models that have fallbacks.

        Raises:
            ParleyError: before the response has started; after that the error is in the stream.
        """
        first = request.route
        fallbacks = self._usable_fallbacks(first, exchange, key)
        fallback = next(fallbacks, None)
        while True:
            try:
                await self._dispatcher.dispatch(request, exchange, has_fallback=fallback is not None)
                return
            except (UpstreamDown, NotRunning, StartupQueueFull):
                if fallback is None:
                    raise
            self._metrics.fell_back(first.spec.id, fallback.spec.id)
            request = redirect_request(request, fallback)
            exchange.model = fallback.spec.id
            fallback = next(fallbacks, None)

    def _usable_fallbacks(self, route: Route, exchange: Exchange, key: KeyInfo | None) -> Iterator[Route]:
        """The fallbacks that the key may use and whose cost it can pay: running ones first."""
        tried: set[str] = set()
        for running in (True, False):
            for name in route.spec.fallbacks:
                fallback = self._watcher.current.routes.get(name)
                if fallback is None or name in tried or (fallback.address is None and running):
                    continue
                tried.add(name)
                if not authorization.may_use_model(key, name, fallback) or not can_pay(key, fallback.spec):
                    continue
                if exchange.admission is None or exchange.admission.allows(fallback.spec):
                    yield fallback
