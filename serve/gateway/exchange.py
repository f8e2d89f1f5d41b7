"""One request and its response: the methods that send the response, and the cancellation when its client disconnects.

ASGI does not tell a writer that its reader has left, so something has to wait on `receive`. Most requests finish before
that pays off: one task looks at all of them a few times a second and waits only on those that take longer.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from models.errors import ParleyError
from serve.accounting.captured_completions import CapturedCompletion
from serve.accounting.request_report import RequestRecord
from serve.transport.asgi import JSON, ASGIMessage, Receive, Send
from serve.transport.error_responses import (
    anthropic_error,
    anthropic_event,
    error_event,
    error_frame,
    error_headers,
)
from serve.transport.request_cycle import RequestResponseCycle

_INTERVAL_S = 0.2


class Exchange(RequestRecord):
    """Sends the response of one request and tracks its status and size."""

    responses_api = False  # the stream is one of /v1/responses
    messages_api = False  # the route is one of Anthropic's, and so are the errors
    captured: CapturedCompletion | None = None  # if the completion will be stored

    def __init__(self, send: Send) -> None:
        super().__init__()
        self._send = send
        # Behind our own HTTPProtocol, `send` is a method of a cycle that also takes plain bytes, which is cheaper.
        cycle = getattr(send, "__self__", None)
        self._cycle = cycle if type(cycle) is RequestResponseCycle else None

    @property
    def started(self) -> bool:
        """Whether the status line was sent."""
        return self.status != 0

    async def start(self, status: int, content_type: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Sends the status and headers of a streamed response."""
        self.status = status
        headers = [
            (b"content-type", content_type),
            (b"x-request-id", self.request_id),
            (b"openai-processing-ms", b"%d" % (self.seconds() * 1000)),
            *self.response_headers,
            *extra,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send_body(self, data: bytes, *, more: bool = False) -> None:
        """Sends a piece of the body: the last one, unless `more`."""
        self.finished = not more
        self.sent_bytes += len(data)
        if self.captured is not None:
            self.captured.add(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def buffered_body(self) -> bytes | None:
        """The whole request body if it has arrived already; None if it must be received."""
        return self._cycle.buffered_body() if self._cycle is not None else None

    def send_nowait(self, data: bytes) -> bool:
        """Sends a piece of a stream without waiting. False: use `send_body` instead."""
        if self._cycle is None or not self._cycle.send_chunk(data):
            return False
        self.sent_bytes += len(data)
        if self.captured is not None:
            self.captured.add(data)
        return True

    async def send_response(
        self, status: int, data: bytes, content_type: bytes = JSON, extra: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Sends a complete response."""
        self.status = status
        self.finished = True
        self.sent_bytes += len(data)
        if self.captured is not None:
            self.captured.add(data)
        if self._cycle is not None:
            more = [*self.response_headers, *extra] if extra else self.response_headers
            lines = b"".join([b"%b: %b\r\n" % pair for pair in more])
            if lines.count(b"\n") == lines.count(b"\r") == len(more) and self._cycle.send_response(
                status,
                b"content-type: %b\r\nx-request-id: %b\r\nopenai-processing-ms: %d\r\n%b"
                % (content_type, self.request_id, self.seconds() * 1000, lines),
                data,
            ):
                return
        await self.start(status, content_type, [*extra, (b"content-length", b"%d" % len(data))])
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    def store_captured(self) -> None:
        """Stores the completion if the client received it completely."""
        captured, self.captured = self.captured, None
        if captured is not None and self.status == 200 and self.finished and not self.fault:
            captured.record(captured, self)

    async def send_json(self, content: Any, status: int = 200) -> None:
        """Sends a JSON response."""
        await self.send_response(status, orjson.dumps(content))

    async def send_error(self, error: ParleyError) -> None:
        """Sends an error: a response, or an error frame if a stream has started; nothing after the response's end."""
        if self.finished:
            return
        if self.started:
            await self.send_stream_error(error.body()["error"])
        else:
            body = self.error_body(error.body()["error"], error.status)
            await self.send_response(error.status, body, extra=error_headers(error))

    def error_body(self, error: Mapping[str, Any], status: int) -> bytes:
        """The body of an error response in the shape of the request's API."""
        if self.messages_api:
            return orjson.dumps(anthropic_error(error, status, self.request_id))
        return orjson.dumps({"error": error})

    async def send_stream_error(self, error: Mapping[str, Any]) -> None:
        """Ends a started stream with an error frame."""
        self.fault = "broken"
        if self.messages_api:
            await self.send_body(anthropic_event(error, self.request_id))
        else:
            await self.send_body(error_event(error) if self.responses_api else error_frame(error))

    def wrap_send(self) -> Send:
        """A `send` for a mounted application that adds this exchange's headers and tracks the response."""

        async def send(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                headers += [
                    (b"x-request-id", self.request_id),
                    (b"openai-processing-ms", b"%d" % (self.seconds() * 1000)),
                    *self.response_headers,
                ]
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                self.finished = not message.get("more_body", False)
                self.sent_bytes += len(message.get("body", b""))
            await self._send(message)

        return send


class DisconnectWatcher:
    """One per gateway; `open` and `close` run with the event loop."""

    def __init__(self) -> None:
        self._new: list[DisconnectListener] = []
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Starts watching."""
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        """Stops watching."""
        if self._task is not None:
            self._task.cancel()

    def listener(self, receive: Receive, exchange: Exchange) -> "DisconnectListener":
        """A listener that cancels the current task when the client disconnects, until `stop` is called."""
        listener = DisconnectListener(receive, exchange)
        self._new.append(listener)
        return listener

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            new, self._new = self._new, []
            for listener in new:
                if not listener.stopped:
                    listener.start()


class DisconnectListener:
    """Waits for the disconnect of one request's client."""

    __slots__ = ("_exchange", "_receive", "_receiving", "_task", "stopped")

    def __init__(self, receive: Receive, exchange: Exchange) -> None:
        self._receive, self._exchange = receive, exchange
        self._task = asyncio.current_task()
        self._receiving: asyncio.Future[object] | None = None
        self.stopped = False

    def start(self) -> None:
        """Starts waiting."""
        self._receiving = asyncio.ensure_future(self._receive())
        self._receiving.add_done_callback(self._on_disconnect)

    def stop(self) -> None:
        """Stops waiting: the response is complete or abandoned."""
        self.stopped = True
        self._task = None
        if self._receiving is not None:
            self._receiving.remove_done_callback(self._on_disconnect)
            self._receiving.cancel()

    def _on_disconnect(self, _: object) -> None:
        if self._task is not None and not self._exchange.finished:
            self._exchange.client_gone = True
            self._task.cancel()
