"""One request and its response as ASGI: `scope`, `receive`, `send`.

It frames HTTP/1.1 responses (lengths, chunks, keep-alive, 100-continue); `serve.transport.http_protocol` is the
connection.
"""

import asyncio
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol

from serve.transport.asgi import ASGIMessage, Headers, Scope

MAX_BUFFERED_BYTES = 2**16  # beyond that, reading from the client pauses until the application has caught up
_STATUS_LINES = MappingProxyType(
    {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
)
_BODYLESS = frozenset({204, 304})


class ClientConnection(Protocol):
    """The connection that a cycle writes to: `serve.transport.http_protocol.HTTPProtocol`."""

    stopping: bool
    write_paused: bool

    @property
    def default_headers(self) -> Headers:
        """The headers that every response starts with."""
        ...

    def default_header_lines(self) -> bytes:
        """The same as bytes."""
        ...

    def write(self, data: bytes) -> None:
        """Writes to the client if it is still connected."""
        ...

    async def wait_writable(self) -> None:
        """Returns once the client has read most of what was written, or has disconnected."""
        ...

    def resume_reading(self) -> None:
        """Reads from the client again."""
        ...

    def on_response_complete(self, cycle: "RequestResponseCycle") -> None:
        """The cycle's response is written."""
        ...


class RequestResponseCycle:
    """One request and its response."""

    # Defaults live on the class: most requests never change them, so they cost nothing per request.
    receiving = True  # of the request body is still to come
    buffered_bytes = 0  # bytes of it that the application has not fetched
    body_delivered = False  # the application has fetched all of it
    disconnected = False
    started = False
    complete = False  # the response is
    _waiter: "asyncio.Future[None] | None" = None
    _pending_head = b""  # of the response, until it is sent with the first piece
    _chunked = False
    _remaining: int | None = None  # bytes of a declared content length that are still to be sent

    def __init__(self, connection: ClientConnection, scope: Scope, *, keep_alive: bool, awaits_100: bool) -> None:
        self._connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.awaits_100 = awaits_100
        self._pieces: list[bytes] = []

    # Called by the connection

    def on_body(self, data: bytes) -> None:
        """A piece of the request body has arrived."""
        self._pieces.append(data)
        self.buffered_bytes += len(data)
        self._wake()

    def on_complete(self) -> None:
        """The request body is complete."""
        self.receiving = False
        self._wake()

    def on_disconnect(self) -> None:
        """The client disconnected or sent invalid HTTP, so nobody reads the response."""
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # Called by the application

    async def receive(self) -> ASGIMessage:
        """ASGI: the body in pieces; after its end, waits until the client disconnects or the response is complete."""
        if self.awaits_100 and not self.started:
            self.awaits_100 = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (
            self.disconnected or self.complete or self._pieces or (not self.receiving and not self.body_delivered)
        ):
            self._connection.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        pieces, self._pieces, self.buffered_bytes = self._pieces, [], 0
        self.body_delivered = not self.receiving
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": data, "more_body": self.receiving}

    async def send(self, message: ASGIMessage) -> None:
        """ASGI: the response head, then its pieces. Waits while the client reads too slowly."""
        connection = self._connection
        if connection.write_paused and not self.disconnected:
            await connection.wait_writable()
        if self.disconnected:
            return
        if not self.started:
            self._send_head(message)
            return
        if self.complete:
            raise RuntimeError("the response is already complete")
        data: bytes = message.get("body", b"")
        receiving = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if not receiving:
                data += b"0\r\n\r\n"
        elif self._remaining is not None:
            self._remaining -= len(data)
            if self._remaining < 0 or (self._remaining > 0 and not receiving):
                raise RuntimeError("the response does not match its content length")
        if self._pending_head:
            data, self._pending_head = self._pending_head + data, b""
        if data:
            connection.write(data)
        if not receiving:
            self.complete = True
            self._wake()
            connection.on_response_complete(self)

    # Called by our own application instead of `receive` and `send` where no waiting is needed: ASGI messages are slower

    def buffered_body(self) -> bytes | None:
        """The whole request body, now fetched; None if it must come by `receive`."""
        if self.receiving or self.body_delivered or self.disconnected:
            return None
        pieces, self._pieces, self.buffered_bytes = self._pieces, [], 0
        self.body_delivered = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send_response(self, status: int, head: bytes, data: bytes) -> bool:
        """Sends a complete response. `head`: header lines without the length. False: use `send` instead."""
        connection = self._connection
        if self.started or self.disconnected or connection.write_paused or self.scope["method"] == "HEAD":
            return False
        self.started = self.complete = True
        if self.awaits_100 or self.receiving or connection.stopping or b"connection: close\r\n" in head:
            self.keep_alive = False
        close = b"" if self.keep_alive or b"connection: close\r\n" in head else b"connection: close\r\n"
        connection.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b"
            % (_status_line(status), connection.default_header_lines(), head, len(data), close, data)
        )
        self._wake()
        connection.on_response_complete(self)
        return True

    def send_chunk(self, data: bytes) -> bool:
        """Sends a piece of a started stream that is not the last. False: use `send` instead."""
        if not self._chunked or self.disconnected or self._connection.write_paused:
            return False
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def _send_head(self, message: ASGIMessage) -> None:
        self.started = True
        status: int = message["status"]
        if self.awaits_100 or self.receiving:
            # It is unknown whether the client still sends its body, so the connection takes no further request.
            self.keep_alive = False
        parts = [_status_line(status)]
        headers = [*self._connection.default_headers, *message["headers"]]
        lines = len(headers) + 2
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._remaining = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
        if self._remaining is None and status not in _BODYLESS:
            self._chunked = self.scope["http_version"] == "1.1"
            if self._chunked:
                parts.append(b"transfer-encoding: chunked\r\n")
                lines += 1
            else:
                self.keep_alive = False  # the end of the connection marks the end of the response
        if not self.keep_alive or self._connection.stopping:
            self.keep_alive = False
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RuntimeError("a response header contains a line break")
        self._pending_head = head
        if self._remaining is None:
            # For a stream, the head goes out at once, because the first piece may take long.
            self._connection.write(self._pending_head)
            self._pending_head = b""


def _status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
