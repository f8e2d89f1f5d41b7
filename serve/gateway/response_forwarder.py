"""An answer brought back to the client: bytes are copied, and read only to count and to see that they are whole.

A stream that breaks says so in an error frame and never ends as if it were whole.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import orjson

from models.errors import ParleyError
from serve.accounting.metrics import Metrics
from serve.gateway.model_request import Asked
from serve.gateway.upstream_errors import BadUpstream, fault, limits_there, passed_on, refusal
from serve.transport import responses
from serve.transport.responses import Exchange
from serve.transport.sse_frames import EventFrames, Frames
from serve.transport.upstream_client import Answer

_LAST_S = 1.0  # what an upstream's connection may take to end after the end of its stream
_STREAMED = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def forward(metrics: Metrics, asked: Asked, answer: Answer, exchange: Exchange) -> Coroutine[Any, Any, bool]:
    """Hands an answer on, an error's too. What it used stands in `exchange` afterwards.

    Returns:
        Whether the server kept to what it had begun.

    Raises:
        ParleyError: before anything has gone to the client; after that the error is in the stream.
    """
    if answer.status >= 300:
        return _refused(metrics, asked, answer, exchange)
    streams = answer.header(b"content-type").lower().startswith(b"text/event-stream")
    if asked.route.hosted:
        exchange.extra += limits_there(answer, exchange.extra)
    if streams is not asked.stream:
        # The SDK would make nothing of it, in silence: an empty stream, or a string.
        metrics.failed(asked.route.spec.id, "broken")
        raise BadUpstream(
            f"The server of {asked.route.spec.id!r} answers with "
            + ("a stream that nobody asked for." if streams else "something that is no stream.")
        )
    if streams:
        return _stream(metrics, asked, answer, exchange)
    return _whole(metrics, asked, answer, exchange)


async def _whole(metrics: Metrics, asked: Asked, answer: Answer, exchange: Exchange) -> bool:
    try:
        data = answer.at_once() or await answer.read()
    except TimeoutError as error:
        raise fault(metrics, asked.route, "timeout", "did not answer in time") from error
    except OSError as error:
        raise fault(metrics, asked.route, "broken", "broke off its answer") from error
    # Read before it is sent: half an answer can come with all the marks of a whole one.
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise fault(metrics, asked.route, "broken", "sent an answer that is no JSON") from error
    if not isinstance(content, dict):
        raise fault(metrics, asked.route, "broken", "sent an answer that is no JSON object")
    await exchange.whole(answer.status, data)
    _used(exchange, content.get("usage"))
    return True


async def _stream(metrics: Metrics, asked: Asked, answer: Answer, exchange: Exchange) -> bool:
    exchange.events = asked.path == "/v1/responses"
    frames = EventFrames() if exchange.events else Frames(hide_usage=asked.hide_usage)
    model = asked.route.spec.id
    await exchange.start(200, responses.EVENTS, _STREAMED)
    broken: ParleyError | None = None
    late = b""  # what the client could not take at once

    def pass_on(piece: bytes) -> bool:
        nonlocal late
        out = frames.feed(piece)
        if out:
            if exchange.first_s is None:
                exchange.first_s = exchange.seconds()
            if not exchange.piece(out):
                late = out
                return False
        return not (frames.whole or frames.error is not None)

    try:
        while not frames.over and (piece := await answer.piece()):
            if pass_on(piece):
                await answer.pour(pass_on)
            if late:
                await exchange.body(late, more=True)
                late = b""
    except TimeoutError:
        broken = fault(metrics, asked.route, "timeout", "fell silent in the middle of its answer")
    except OSError:
        broken = fault(metrics, asked.route, "broken", "broke off in the middle of its answer")
    if broken is None and frames.error is not None:
        metrics.failed(model, "broken")
        await exchange.broke(responses.openai_error(frames.error, 500))
    elif broken is None and frames.whole:
        await exchange.body(b"")
    else:
        broken = broken or fault(metrics, asked.route, "broken", "broke off in the middle of its answer")
        await exchange.broke(broken.body()["error"])
    _used(exchange, frames.usage)
    first_s = exchange.first_s
    if first_s is not None:
        metrics.streamed(model, first_s, exchange.seconds() - first_s, exchange.completion_tokens)
    if not frames.whole:
        return False
    # Nobody waits for it, but a connection that has come to its end can be used again.
    with suppress(OSError):
        async with asyncio.timeout(_LAST_S):
            while await answer.piece():
                pass
    return True


async def _refused(metrics: Metrics, asked: Asked, answer: Answer, exchange: Exchange) -> bool:
    try:
        data = await answer.read()
    except OSError:
        data = b""
    body = refusal(metrics, asked, answer.status, data)
    theirs = passed_on(answer)
    # What refuses says when to come back: here its word counts, and not what is left of the key's limits.
    named = {name for name, _ in theirs}
    exchange.extra = [pair for pair in exchange.extra if pair[0] not in named]
    await exchange.whole(answer.status, body, extra=theirs)
    return True


def _used(exchange: Exchange, usage: Any) -> None:
    """Notes a server's count; /v1/responses has other names for it."""
    if isinstance(usage, dict):
        exchange.prompt_tokens = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
        exchange.completion_tokens = _count(usage.get("completion_tokens", usage.get("output_tokens")))


def _count(number: Any) -> int:
    """A count, or 0 where it makes no sense."""
    return number if isinstance(number, int) and number > 0 else 0
