"""A request sent to its model, or to one that stands in for it: places, breakers, what is tried again and what is not.

Nothing is tried again once a byte of an answer has gone to the client. Before that, a hosted model's fallbacks are
tried in their order while the one before them cannot be reached, is silent, is left alone by its breaker, or answers
with 429 or 5xx. A request that an upstream may have billed is never sent to that upstream again.
"""

import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from models.errors import ParleyError
from models.keys import KeyInfo
from models.settings import Settings
from serve.accounting.metrics import Metrics
from serve.accounting.rate_limits import can_pay
from serve.gateway import authorization
from serve.gateway.circuit_breaker import Breaker
from serve.gateway.concurrency_limiter import Places
from serve.gateway.model_request import Asked
from serve.gateway.response_forwarder import forward
from serve.gateway.snapshot import Route, Watcher
from serve.gateway.startup_queue import Starting
from serve.gateway.upstream_errors import Down, down
from serve.transport.engine_client import Pool, Unreachable
from serve.transport.responses import Exchange
from serve.transport.timeouts import timeouts_of
from serve.transport.upstream_client import Answer, Upstreams
from serve.validation import fields

_UNUSED_S = (
    15.0  # an engine's own idle connections live longer (its keep-alive is in serve.fleet.vllm_command): ours end first
)


@dataclass(frozen=True, slots=True)
class _Server:
    """What is known of one engine or upstream from the requests before."""

    places: Places
    breaker: Breaker


class Sending:
    """The connections to engines and upstreams. `open` and `close` with the event loop."""

    def __init__(self, settings: Settings, watcher: Watcher, metrics: Metrics, starting: Starting) -> None:
        self._settings = settings
        self._watcher = watcher
        self._metrics = metrics
        self._starting = starting
        self._servers: dict[tuple[str, str | None], _Server] = {}
        self._engines = Pool(timeouts_of(settings), unused_s=_UNUSED_S)
        self._hosted = Upstreams(timeouts_of(settings))

    def open(self) -> None:
        """Makes the connection pools."""
        self._engines.open()
        self._hosted.open()

    async def close(self) -> None:
        """Closes the pools."""
        self._engines.close()
        await self._hosted.close()

    def send(self, asked: Asked, exchange: Exchange, key: KeyInfo | None) -> Coroutine[Any, Any, None]:
        """Answers a request by its model, or by the first of its fallbacks that can.

        Raises:
            ParleyError: before the answer has begun; after that the error is in the stream.
        """
        if asked.route.spec.fallbacks:
            return self._send_somewhere(asked, exchange, key)
        return self._send(asked, exchange, spare=False)

    async def _send_somewhere(self, asked: Asked, exchange: Exchange, key: KeyInfo | None) -> None:
        first = asked.route
        others = self._fallbacks(first, key)
        other = next(others, None)
        while True:
            try:
                await self._send(asked, exchange, spare=other is not None)
                return
            except Down:
                if other is None:
                    raise
            self._metrics.fell_back(first.spec.id, other.spec.id)
            asked = _for_another(asked, other)
            exchange.model = other.spec.id
            other = next(others, None)

    def _fallbacks(self, route: Route, key: KeyInfo | None) -> Iterator[Route]:
        """Those that run, and that the key may use and can pay."""
        routes = self._watcher.current.routes
        for name in route.spec.fallbacks:
            other = routes.get(name)
            if other is None or other.address is None:
                continue
            if authorization.in_scope(key, name, other) and can_pay(key, other.spec):
                yield other

    async def _send(self, asked: Asked, exchange: Exchange, *, spare: bool) -> None:
        """Asks one model. `spare`: there is another one, so that it may be Down where it answers with 429 or 5xx."""
        if asked.route.address is None:
            asked = await self._starting.runnable(asked)
        route = asked.route
        server = self._servers.get((route.spec.id, route.address)) or self._meet(route)
        breaker, places, hosted = server.breaker, server.places, route.hosted
        breaker.enter()
        try:
            if places.free:
                places.take()
            else:
                await self._queue(places, route)
        except BaseException:
            breaker.nothing()
            raise
        try:
            exchange.asked = True
            if hosted:
                answer = await self._ask(asked, breaker)
            else:
                try:
                    answer = await self._engines.post(*_request(asked))
                except BaseException as error:
                    answer = await self._ask_again(asked, breaker, error)
            try:
                status = answer.status
                if status >= 500 and hosted:
                    breaker.failed()
                else:
                    breaker.succeeded()
                if spare and (status == 429 or status >= 500):
                    self._metrics.failed(route.spec.id, str(status))
                    raise Down(f"The server of {route.spec.id!r} answers with status {status}.")
                exchange.extra.append((b"x-parley-model", route.spec.id.encode()))
                if not await forward(self._metrics, asked, answer, exchange):
                    breaker.failed()
            finally:
                answer.leave()
        finally:
            places.give()

    async def _ask(self, asked: Asked, breaker: Breaker) -> Answer:
        """Asks a hosted upstream."""
        route = asked.route
        upstream = route.spec.upstream
        if upstream is not None and upstream.credential and route.authorization is None:
            breaker.nothing()
            raise Down(
                f"The upstream of {route.spec.id!r} needs a key: set {upstream.credential} where Parley is started."
            )
        try:
            return await self._hosted.post(*_request(asked))
        except BaseException as error:
            self._failed(route, breaker, error)
            raise

    async def _ask_again(self, asked: Asked, breaker: Breaker, error: BaseException) -> Answer:
        """Asks an engine once more that could not be reached: it may just have ended, and be started again."""
        try:
            if not isinstance(error, Unreachable):
                raise error
            asked = await self._starting.again(asked)
            return await self._engines.post(*_request(asked))
        except BaseException as last:
            self._failed(asked.route, breaker, last)
            raise

    def _failed(self, route: Route, breaker: Breaker, error: BaseException) -> None:
        """Tells a breaker how a request ended that got no answer; and its client, if it was the server's fault."""
        if isinstance(error, ParleyError) or not isinstance(error, OSError):
            breaker.nothing()
            return
        breaker.failed()
        if isinstance(error, TimeoutError):
            raise down(self._metrics, route, "timeout", "did not answer in time") from error
        raise down(self._metrics, route, "connect", "cannot be reached") from error

    async def _queue(self, places: Places, route: Route) -> None:
        self._metrics.waiting.inc(route.spec.id)
        began = time.monotonic()
        try:
            await places.wait()
        finally:
            self._metrics.waiting.dec(route.spec.id)
            self._metrics.queued(route.spec.id, time.monotonic() - began)

    def _meet(self, route: Route) -> _Server:
        """A server that is asked for the first time. Adapters share the places of their base's engine."""
        settings = self._settings
        known = self._watcher.current.routes.values()
        alive = {(other.spec.id, other.address) for other in known}
        for gone in self._servers.keys() - alive:
            if not self._servers[gone].places.running:
                del self._servers[gone]
        shared = (
            None
            if route.hosted
            else next(
                (server.places for (_, address), server in self._servers.items() if address == route.address), None
            )
        )
        places = shared or Places(
            route.spec.id,
            most_running=settings.running_per_model,
            most_waiting=settings.queue_size,
            wait_s=settings.queue_wait_s,
        )
        server = _Server(places, Breaker(route.spec.id, self._metrics.breaker))
        self._servers[route.spec.id, route.address] = server
        self._metrics.breaker(route.spec.id, "closed")
        return server


def _request(asked: Asked) -> tuple[str, str, bytes, str | None]:
    route = asked.route
    assert route.address is not None
    return route.address, asked.path[3:], asked.body, route.authorization  # an address ends in /v1 already


def _for_another(asked: Asked, route: Route) -> Asked:
    """The same request, as another model's server gets it."""
    content = orjson.loads(asked.body)
    content["model"] = route.model
    if not route.hosted:
        fields.check_media(content)
        content = fields.for_engine(asked.path, content)
    return asked._replace(route=route, body=orjson.dumps(content))
