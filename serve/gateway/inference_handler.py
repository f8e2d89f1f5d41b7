"""Answers one request to a model, step by step, from the request body to the forwarded response.

Each step is a file: `serve.transport.request_bodies` reads, `serve.validation.request_checks` parses,
`serve.gateway.model_request` validates, `serve.accounting.rate_limits` admits, `serve.gateway.dispatcher` finds a
server, `serve.gateway.response_forwarder` forwards the response.
"""

import asyncio
from collections.abc import Iterator

from models.database import Database
from models.keys import KeyInfo
from models.settings.settings import Settings
from serve.accounting.completion_log import CapturedCompletion, CompletionLog
from serve.accounting.metrics import Metrics
from serve.accounting.request_report import RequestAccounting
from serve.gateway import authorization
from serve.gateway.dispatcher import Dispatcher
from serve.gateway.exchange import DisconnectWatcher, Exchange
from serve.gateway.fallbacks import FallbackDispatcher
from serve.gateway.model_request import ModelRequest, build_model_request, find_route
from serve.gateway.snapshot import SnapshotWatcher
from serve.transport.asgi import Receive, Scope
from serve.transport.request_bodies import LargeBodyTurns, RequestBodyReader
from serve.validation.request_checks import parse_json

_CHAT = "/v1/chat/completions"
_LARGE_BYTES = 2**16  # parsing a shorter body takes under 10 ms, whatever it contains
# These routes generate nothing, so they are free, as at OpenAI and Anthropic.
_UNMETERED = frozenset({"/v1/messages/count_tokens", "/v1/tokenize", "/v1/moderations"})


class InferenceHandler:
    """Handles the inference routes. One per gateway; `open` and `close` run with its process."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        watcher: SnapshotWatcher,
        metrics: Metrics,
        accounting: RequestAccounting,
    ) -> None:
        self._watcher = watcher
        self._accounting = accounting
        self._bodies = RequestBodyReader(settings)
        self._large_bodies = LargeBodyTurns()
        self._disconnects = DisconnectWatcher()
        self._dispatcher = Dispatcher(settings, database, watcher, metrics)
        self._fallbacks = FallbackDispatcher(self._dispatcher, watcher, metrics)
        self._completions = CompletionLog(settings, database)

    def running_requests(self) -> Iterator[tuple[str, int]]:
        """(engine's name, running requests) of each engine and replica."""
        return self._dispatcher.running_requests()

    async def open(self) -> None:
        """Creates the connection pools."""
        self._dispatcher.open()
        self._disconnects.open()
        self._completions.start()

    async def close(self) -> None:
        """Closes the pools, and writes the completions that are not stored yet."""
        self._disconnects.close()
        await self._dispatcher.close()
        await asyncio.to_thread(self._completions.stop)

    async def handle(self, scope: Scope, receive: Receive, exchange: Exchange, key: KeyInfo | None) -> None:
        """Answers one request. Its model and usage are in `exchange` afterwards, however it ends.

        Raises:
            ParleyError: before the response has started; after that the error is in the stream.
            CancelledError: the client disconnected.
        """
        body = exchange.buffered_body()
        if body is None:
            body = await self._bodies.read(scope, receive)
        else:
            self._bodies.hold(body)
        size = len(body)
        try:
            if size < _LARGE_BYTES:
                request = self._prepare(scope["path"], body, exchange, key)
            else:
                async with self._large_bodies.turn():
                    request = self._prepare(scope["path"], body, exchange, key)
            del body  # `request` has the body to send
            route = request.route
            if request.path in _UNMETERED:
                exchange.metered = False
            leases = self._accounting.leases
            if leases is not None and key is not None:
                await leases.lease(key, route.spec, size, request.max_tokens, request.choices)
            self._accounting.admit(exchange, route.spec, size, request.max_tokens, request.choices)
            listener = self._disconnects.listener(receive, exchange)
            try:
                if route.spec.fallbacks:
                    await self._fallbacks.dispatch(request, exchange, key)
                else:
                    await self._dispatcher.dispatch(request, exchange)
            finally:
                listener.stop()
            if exchange.captured is not None:
                self._store(exchange, exchange.captured)
        finally:
            self._bodies.release(size)

    def _prepare(self, path: str, body: bytes, exchange: Exchange, key: KeyInfo | None) -> ModelRequest:
        """Parses and validates a body. Sets the exchange's model and whether it streams."""
        content = parse_json(body)
        route = find_route(content, self._watcher.current)
        authorization.check_model_access(key, content["model"], route)
        exchange.model = route.spec.id
        request = build_model_request(path, content, route, batch=key is not None and key.batch)
        exchange.stream = request.stream
        if path == _CHAT and self._completions.wants(content):
            exchange.captured = CapturedCompletion(body)
        return request

    def _store(self, exchange: Exchange, captured: CapturedCompletion) -> None:
        """Stores a completion that the client received completely."""
        if exchange.status == 200 and exchange.finished and not exchange.fault:
            self._completions.record(captured, exchange)
