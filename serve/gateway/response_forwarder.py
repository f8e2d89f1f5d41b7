"""Forwards a server's response to the client: bytes are copied, and parsed only for usage and completeness.

A stream that breaks ends with an error frame, never as if it were complete.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import orjson

from models.errors import ParleyError
from serve.accounting.metrics import Metrics
from serve.gateway.exchange import Exchange
from serve.gateway.function_frames import FunctionFrameFilter
from serve.gateway.model_request import ModelRequest
from serve.gateway.response_frames import ShownFieldsFilter
from serve.gateway.upstream_errors import (
    BadUpstream,
    client_error,
    stream_error,
    upstream_fault,
)
from serve.transport.asgi import EVENT_STREAM, Headers
from serve.transport.message_frames import MessageFrameFilter, prompt_tokens
from serve.transport.sse_frames import FrameFilter, ResponsesFrameFilter
from serve.transport.upstream_client import ServerResponse
from serve.validation.legacy_functions import translate_response

_FORWARDED = frozenset({b"retry-after", b"retry-after-ms", b"x-should-retry"})
_STREAM_END_S = 1.0  # how long an upstream may keep its connection open after the end of its stream
_STREAM_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


def forward(
    metrics: Metrics, request: ModelRequest, response: ServerResponse, exchange: Exchange
) -> Coroutine[Any, Any, bool]:
    """Forwards a response, an error response too. Its usage is in `exchange` afterwards.

    Returns:
        Whether the server completed what it started.

    Raises:
        ParleyError: before anything has gone to the client; after that the error is in the stream.
    """
    if response.status >= 300:
        return _forward_error(metrics, request, response, exchange)
    streams = response.header(b"content-type").lower().startswith(b"text/event-stream")
    if request.route.hosted:
        redact = request.route.redactor.redact
        limits = _upstream_limits(response, exchange.response_headers)
        exchange.response_headers += [(name, redact(value)) for name, value in limits]
    if streams is not request.stream:
        # The SDK would silently read it as an empty stream or as a string.
        metrics.failed(request.route.spec.id, "broken")
        problem = "a stream that was not requested" if streams else "something other than the requested stream"
        raise BadUpstream(f"The server of {request.route.spec.id!r} answers with {problem}.")
    if streams:
        return _forward_stream(metrics, request, response, exchange)
    return _forward_json(metrics, request, response, exchange)


async def _forward_json(metrics: Metrics, request: ModelRequest, response: ServerResponse, exchange: Exchange) -> bool:
    try:
        data = response.buffered_body() or await response.read()
    except TimeoutError as error:
        raise upstream_fault(metrics, request.route, "timeout", "did not answer in time") from error
    except OSError as error:
        raise upstream_fault(metrics, request.route, "broken", "closed the connection during its response") from error
    # Parsed before it is sent, because a truncated response can look complete at the HTTP level.
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise upstream_fault(metrics, request.route, "broken", "sent a response that is not JSON") from error
    if not isinstance(content, dict):
        raise upstream_fault(metrics, request.route, "broken", "sent a response that is not a JSON object")
    if request.legacy_functions:
        data = orjson.dumps(translate_response(content))
    if request.shown is not None and content.get("object") == "response":
        data = orjson.dumps(content | request.shown)
    await exchange.send_response(response.status, request.route.redactor.redact(data))
    _record_usage(exchange, content.get("usage"))
    return True


def _frame_filter(request: ModelRequest) -> FrameFilter:
    """The filter for the stream of a request's API."""
    if request.path == "/v1/responses":
        return ResponsesFrameFilter() if request.shown is None else ShownFieldsFilter(request.shown)
    if request.path == "/v1/messages":
        return MessageFrameFilter()
    kind = FunctionFrameFilter if request.legacy_functions else FrameFilter
    return kind(hide_usage=request.hide_usage)


async def _forward_stream(
    metrics: Metrics, request: ModelRequest, response: ServerResponse, exchange: Exchange
) -> bool:
    exchange.responses_api = request.path == "/v1/responses"
    frames = _frame_filter(request)
    model, redact = request.route.spec.id, request.route.redactor.redact
    await exchange.start(200, EVENT_STREAM, _STREAM_HEADERS)
    fault: ParleyError | None = None
    unsent = b""  # what the client could not take at once

    def pass_on(piece: bytes) -> bool:
        nonlocal unsent
        out = frames.feed(piece)
        if out:
            out = redact(out)  # whole frames, so no secret is cut in two
            if exchange.ttft_s is None:
                exchange.ttft_s = exchange.seconds()
            if not exchange.send_nowait(out):
                unsent = out
                return False
        return not (frames.complete or frames.error is not None)

    try:
        while not frames.ended and (piece := await response.read_piece()):
            if pass_on(piece):
                await response.stream_to(pass_on)
            if unsent:
                await exchange.send_body(unsent, more=True)
                unsent = b""
    except TimeoutError:
        fault = upstream_fault(metrics, request.route, "timeout", "stopped sending in the middle of its response")
    except OSError:
        fault = upstream_fault(metrics, request.route, "broken", "closed the connection during its response")
    if fault is None and frames.error is not None:
        metrics.failed(model, "broken")
        await exchange.send_stream_error(request.route.redactor.redact_json(stream_error(request, frames.error)))
    elif fault is None and frames.complete:
        await exchange.send_body(b"")
    else:
        fault = fault or upstream_fault(metrics, request.route, "broken", "closed the connection during its response")
        await exchange.send_stream_error(fault.body()["error"])
    _record_usage(exchange, frames.usage)
    exchange.store_captured()  # the client may continue the response at once
    ttft_s = exchange.ttft_s
    if ttft_s is not None:
        metrics.streamed(model, ttft_s, exchange.seconds() - ttft_s, exchange.completion_tokens)
    if not frames.complete:
        return False
    # Read to the end, so that the connection can be reused. The client already has its whole response.
    with suppress(OSError):
        async with asyncio.timeout(_STREAM_END_S):
            while await response.read_piece():
                pass
    return True


async def _forward_error(metrics: Metrics, request: ModelRequest, response: ServerResponse, exchange: Exchange) -> bool:
    try:
        data = await response.read()
    except OSError:
        data = b""
    redact = request.route.redactor.redact
    body = redact(exchange.error_body(client_error(metrics, request, response.status, data), response.status))
    forwarded = [(name, redact(value)) for name, value in _forwarded_headers(response)]
    # The server that refuses knows when to retry: its headers replace those of the key's limits.
    names = {name for name, _ in forwarded}
    exchange.response_headers = [pair for pair in exchange.response_headers if pair[0] not in names]
    await exchange.send_response(response.status, body, extra=forwarded)
    return True


def _forwarded_headers(response: ServerResponse) -> Headers:
    """The headers of an error response that also go to the client: retry advice and rate limits."""
    return [(name, value) for name, value in response.headers if name in _FORWARDED or name.startswith(b"x-ratelimit-")]


def _upstream_limits(response: ServerResponse, ours: Headers) -> Headers:
    """An upstream's own rate limit headers, except those that the key's limits already set."""
    present = {name for name, _ in ours}
    return [
        (name, value) for name, value in response.headers if name.startswith(b"x-ratelimit-") and name not in present
    ]


def _record_usage(exchange: Exchange, usage: Any) -> None:
    """Stores a server's token counts, which have other names in /v1/responses and /v1/messages."""
    if isinstance(usage, dict):
        exchange.prompt_tokens = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
        if exchange.messages_api:
            exchange.prompt_tokens = prompt_tokens(usage)
        exchange.completion_tokens = _count(usage.get("completion_tokens", usage.get("output_tokens")))


def _count(number: Any) -> int:
    """A token count, or 0 if the value is not one."""
    return number if isinstance(number, int) and number > 0 else 0
