"""Answers one request to a model, step by step, from the request body to the forwarded response.

Each step is a file: `serve.transport.request_bodies` reads, `serve.validation.request_checks` parses,
`serve.gateway.model_request` validates, `serve.accounting.rate_limits` admits, `serve.gateway.dispatcher` finds a
server, `serve.gateway.response_forwarder` forwards the response. A request that continues a stored response first gets
its conversation from `serve.gateway.response_chains`.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, NamedTuple

from models.database import Database
from models.errors import Invalid
from models.keys import KeyInfo
from models.settings.settings import Settings
from serve.accounting.captured_completions import CapturedCompletion, CapturedResponse
from serve.accounting.completion_log import CompletionLog
from serve.accounting.metrics import Metrics
from serve.accounting.request_report import RequestAccounting
from serve.gateway import authorization
from serve.gateway.dispatcher import Dispatcher
from serve.gateway.exchange import DisconnectWatcher, Exchange
from serve.gateway.fallbacks import FallbackDispatcher
from serve.gateway.model_request import ModelRequest, build_model_request, find_route
from serve.gateway.response_chains import PREVIOUS, ResponseChains, continue_conversation
from serve.gateway.snapshot import Route, SnapshotWatcher
from serve.transport.asgi import Receive, Scope
from serve.transport.request_bodies import LargeBodyTurns, RequestBodyReader
from serve.validation.request_checks import parse_json

_CHAT, _RESPONSES = "/v1/chat/completions", "/v1/responses"
_LARGE_BYTES = 2**16  # parsing a shorter body takes under 10 ms, whatever it contains
# These routes generate nothing, so they are free, as at OpenAI and Anthropic.
_UNMETERED = frozenset({"/v1/messages/count_tokens", "/v1/tokenize", "/v1/moderations"})


class _Parsed(NamedTuple):
    """A parsed request to /v1/responses. One that continues a stored response is returned before it is loaded.

    `batch`: it is a row of a batch.
    """

    content: dict[str, Any]
    route: Route
    batch: bool


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
        self.completions = CompletionLog(settings, database)
        self._chains = ResponseChains(settings, database, self.completions)

    def running_requests(self) -> Iterator[tuple[str, int]]:
        """(engine's name, running requests) of each engine and replica."""
        return self._dispatcher.running_requests()

    async def open(self) -> None:
        """Creates the connection pools."""
        self._dispatcher.open()
        self._disconnects.open()
        self.completions.start()

    async def close(self) -> None:
        """Closes the pools, and writes the completions that are not stored yet."""
        self._disconnects.close()
        await self._dispatcher.close()
        await asyncio.to_thread(self.completions.stop)

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
            self._bodies.hold(len(body))
        size = prompt_size = len(body)
        try:
            if size < _LARGE_BYTES:
                request = self._prepare(scope["path"], body, exchange, key)
            else:
                async with self._large_bodies.turn():
                    request = self._prepare(scope["path"], body, exchange, key)
            if isinstance(request, _Parsed):
                request = await self._continue(request, body, exchange, key)
                prompt_size = len(request.body)
                self._bodies.hold(prompt_size)
                size += prompt_size
            del body  # `request` has the body to send
            route = request.route
            if request.path in _UNMETERED:
                exchange.metered = False
            leases = self._accounting.leases
            if leases is not None and key is not None:
                await leases.lease(key, route.spec, prompt_size, request.max_tokens, request.choices)
            self._accounting.admit(exchange, route.spec, prompt_size, request.max_tokens, request.choices)
            listener = self._disconnects.listener(receive, exchange)
            try:
                if route.spec.fallbacks:
                    await self._fallbacks.dispatch(request, exchange, key)
                else:
                    await self._dispatcher.dispatch(request, exchange)
            finally:
                listener.stop()
            exchange.store_captured()
        finally:
            self._bodies.release(size)

    def _prepare(self, path: str, body: bytes, exchange: Exchange, key: KeyInfo | None) -> ModelRequest | _Parsed:
        """Parses and validates a body. Sets the exchange's model and whether it streams."""
        content = parse_json(body)
        route = find_route(content, self._watcher.current)
        authorization.check_model_access(key, content["model"], route)
        exchange.model = route.spec.id
        batch = key is not None and key.batch
        if path == _RESPONSES:
            parsed = _Parsed(content, route, batch)
            return parsed if content.get(PREVIOUS) is not None else self._prepare_response(parsed, body, exchange)
        request = build_model_request(path, content, route, batch=batch)
        exchange.stream = request.stream
        if path == _CHAT and self.completions.wants(content):
            exchange.captured = CapturedCompletion(body, self.completions.record)
        return request

    async def _continue(self, parsed: _Parsed, body: bytes, exchange: Exchange, key: KeyInfo | None) -> ModelRequest:
        """Validates a request that continues a stored response, with its conversation."""
        content, route, batch = parsed
        response_id = content[PREVIOUS]
        conversation = await self._chains.load(response_id, route, key)
        if conversation is None:
            return self._prepare_response(parsed, body, exchange)
        async with self._large_bodies.turn():
            whole = continue_conversation(content, conversation, route)
            if route.renamed:  # by an alias, which may choose the model by the first message
                route = find_route(whole, self._watcher.current)
                authorization.check_model_access(key, content["model"], route)
                exchange.model = route.spec.id
                whole = continue_conversation(content, conversation, route)
            request = self._prepare_response(_Parsed(whole, route, batch), body, exchange)
        self._chains.check_size(len(request.body))
        return request._replace(shown={**(request.shown or {}), PREVIOUS: response_id})

    def _prepare_response(self, parsed: _Parsed, body: bytes, exchange: Exchange) -> ModelRequest:
        """Validates a request to /v1/responses whose input is complete."""
        content, route, batch = parsed
        if content.get("store") is True and not self.completions.stores_responses and not route.hosted:
            raise Invalid(
                "This server does not store responses (setting store_responses): send the request without store, or "
                "with store: false.",
                param="store",
                code="unsupported_parameter",
            )
        request = build_model_request(_RESPONSES, content, route, batch=batch)
        exchange.stream = request.stream
        stored = self.completions.wants_response(content)
        if stored:
            exchange.captured = CapturedResponse(body, self.completions.record)
        return request if route.hosted and not stored else request._replace(shown={"store": stored})
