"""A request sent on, and its answer brought back: bytes are copied, and read only to count.

A stream that breaks says so in an error frame and never ends as if it were whole; nothing is asked twice once the
first byte of an answer is there.
"""

import asyncio
from contextlib import suppress
from typing import Any

import orjson

from models.errors import ParleyError, Unavailable
from models.settings import Settings
from serve import replies
from serve.asked import Asked
from serve.frames import Frames
from serve.metrics import Metrics
from serve.refusals import BadUpstream, fault, limits_there, passed_on, refusal
from serve.replies import Exchange
from serve.upstreams import Answer, Upstreams
from serve.wire import Pool

_CONNECT_S = 5.0
_IDLE_S = 15.0
_LAST_S = 1.0  # what an upstream's connection may take to end after the end of its stream
_JSON_REQUEST = {"content-type": "application/json", "accept-encoding": "identity"}


class Forwarding:
    """The connections to engines and upstreams, and what goes over them. `open` and `close` with the event loop."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        silence_s = settings.upstream_timeout_s
        # An engine's own idle connections live longer (its keep-alive is in serve.engines), so ours end first.
        self._engines = Pool(connect_s=_CONNECT_S, silence_s=silence_s, idle_s=_IDLE_S)
        self._hosted = Upstreams(connect_s=_CONNECT_S, silence_s=silence_s)

    def open(self) -> None:
        """Makes the connection pools."""
        self._engines.open()
        self._hosted.open()

    async def close(self) -> None:
        """Closes the pools."""
        self._engines.close()
        await self._hosted.close()

    async def forward(self, asked: Asked, exchange: Exchange) -> None:
        """Answers a request whose model runs. What it used stands in `exchange` afterwards.

        Raises:
            ParleyError: before the answer has begun; after that the error is in the stream.
        """
        route = asked.route
        if route.hosted and route.authorization is None and route.spec.upstream and route.spec.upstream.credential:
            raise Unavailable(
                f"The upstream of {route.spec.id!r} needs a key: set {route.spec.upstream.credential} "
                "where Parley is started."
            )
        headers = _JSON_REQUEST
        if route.authorization:
            headers = {**headers, "authorization": route.authorization}
        address = f"{route.address}{asked.path.removeprefix('/v1')}"
        ask = self._hosted.post if route.hosted else self._engines.post
        try:
            answer: Answer = await ask(address, asked.body, headers)
        except TimeoutError as error:
            raise fault(self._metrics, route, "timeout", "did not answer in time") from error
        except OSError as error:
            raise fault(self._metrics, route, "connect", "cannot be reached") from error
        async with answer:
            streams = answer.header(b"content-type").lower().startswith(b"text/event-stream")
            if route.hosted and answer.status < 300:
                exchange.extra += limits_there(answer, exchange.extra)
            if answer.status >= 300:
                await self._refused(asked, answer, exchange)
            elif streams is not asked.stream:
                # The SDK would make nothing of it, in silence: an empty stream, or a string.
                self._metrics.failed(route.spec.id, "broken")
                raise BadUpstream(
                    f"The server of {route.spec.id!r} answers with "
                    + ("a stream that nobody asked for." if streams else "something that is no stream.")
                )
            elif streams:
                await self._stream(asked, answer, exchange)
            else:
                await self._whole(asked, answer, exchange)

    async def _whole(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        try:
            data = await answer.read()
        except TimeoutError as error:
            raise fault(self._metrics, asked.route, "timeout", "did not answer in time") from error
        except OSError as error:
            raise fault(self._metrics, asked.route, "broken", "broke off its answer") from error
        # Read before it is sent: half an answer can come with all the marks of a whole one.
        try:
            content = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise fault(self._metrics, asked.route, "broken", "sent an answer that is no JSON") from error
        if not isinstance(content, dict):
            raise fault(self._metrics, asked.route, "broken", "sent an answer that is no JSON object")
        await exchange.whole(answer.status, data)
        self._used(exchange, content.get("usage"))

    async def _stream(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        frames = Frames(hide_usage=asked.hide_usage)
        model = asked.route.spec.id
        await exchange.start(200, replies.EVENTS, [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")])
        broken: ParleyError | None = None
        try:
            while not frames.over and (piece := await answer.piece()):
                out = frames.feed(piece)
                if out:
                    if exchange.first_s is None:
                        exchange.first_s = exchange.seconds()
                    await exchange.body(out, more=True)
        except TimeoutError:
            broken = fault(self._metrics, asked.route, "timeout", "fell silent in the middle of its answer")
        except OSError:
            broken = fault(self._metrics, asked.route, "broken", "broke off in the middle of its answer")
        if broken is None and frames.error is not None:
            self._metrics.failed(model, "broken")
            await exchange.broke(replies.openai_error(frames.error, 500))
        elif broken is None and frames.whole:
            await exchange.body(b"")
        else:
            broken = broken or fault(self._metrics, asked.route, "broken", "broke off in the middle of its answer")
            await exchange.broke(broken.body()["error"])
        self._used(exchange, frames.usage)
        first_s = exchange.first_s
        if first_s is not None:
            self._metrics.streamed(model, first_s, exchange.seconds() - first_s, exchange.completion_tokens)
        if frames.whole:
            # Nobody waits for it, but a connection that has come to its end can be used again.
            with suppress(OSError):
                async with asyncio.timeout(_LAST_S):
                    while await answer.piece():
                        pass

    async def _refused(self, asked: Asked, answer: Answer, exchange: Exchange) -> None:
        try:
            data = await answer.read()
        except OSError:
            data = b""
        body = refusal(self._metrics, asked.route, answer.status, data)
        theirs = passed_on(answer)
        # What refuses says when to come back: here its word counts, and not what is left of the key's limits.
        named = {name for name, _ in theirs}
        exchange.extra = [pair for pair in exchange.extra if pair[0] not in named]
        await exchange.whole(answer.status, body, extra=theirs)

    def _used(self, exchange: Exchange, usage: Any) -> None:
        exchange.prompt_tokens = _tokens(usage, "prompt_tokens")
        exchange.completion_tokens = _tokens(usage, "completion_tokens")


def _tokens(usage: Any, name: str) -> int:
    """A count out of a server's `usage`; 0 where it has none that makes sense."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else 0
