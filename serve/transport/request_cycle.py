"""One request of a client on the wire, as an ASGI application sees it: `scope`, `receive`, `send`.

It knows HTTP/1.1's answers (lengths, chunks, keep-alive, 100-continue); connections are `serve.transport.http_protocol`'s.
"""

import asyncio
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.transport.http_protocol import Front
    from serve.transport.responses import ASGIMessage, Scope

BUFFERED = 2**16  # bytes of a body that wait for the application before the client is told to wait too
_LINES = MappingProxyType({one.value: f"HTTP/1.1 {one.value} {one.phrase}\r\n".encode() for one in HTTPStatus})
_BODYLESS = frozenset({204, 304})


class Cycle:
    """One request and its answer."""

    # Most of these stay as they are: what the class says costs a request nothing.
    more = True  # of the request's body is to come from the client
    held = 0  # bytes of it that the application has not fetched
    delivered = False  # it has fetched all of it
    disconnected = False
    started = False
    complete = False  # the answer
    _waiter: "asyncio.Future[None] | None" = None
    _head = b""  # of the answer, until its first piece goes with it
    _chunked = False
    _left: int | None = None  # bytes that the answer has still to bring, where it said how many

    def __init__(self, front: "Front", scope: "Scope", *, keep_alive: bool, awaits_100: bool) -> None:
        self._front = front
        self.scope = scope
        self.keep_alive = keep_alive
        self.awaits_100 = awaits_100
        self._pieces: list[bytes] = []

    # What the connection tells

    def body(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        self._pieces.append(data)
        self.held += len(data)
        self._wake()

    def whole(self) -> None:
        """The request's body is whole."""
        self.more = False
        self._wake()

    def gone(self) -> None:
        """The client has gone, or sends what is no HTTP: nobody reads the answer."""
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the application calls

    async def receive(self) -> "ASGIMessage":
        """ASGI: the body in pieces; after its end it waits until the client goes or the answer is complete."""
        if self.awaits_100 and not self.started:
            self.awaits_100 = False
            self._front.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self.disconnected or self.complete or self._pieces or (not self.more and not self.delivered)):
            self._front.resume_reading()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.disconnected or self.complete:
            return {"type": "http.disconnect"}
        pieces, self._pieces, self.held = self._pieces, [], 0
        self.delivered = not self.more
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": data, "more_body": self.more}

    async def send(self, message: "ASGIMessage") -> None:
        """ASGI: the answer's head, then its pieces. It waits while the client reads too slowly."""
        front = self._front
        if front.write_paused and not self.disconnected:
            await front.writable()
        if self.disconnected:
            return
        if not self.started:
            self._begin(message)
            return
        if self.complete:
            raise RuntimeError("the answer is complete already")
        data: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        if self.scope["method"] == "HEAD":
            data = b""
        elif self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if not more:
                data += b"0\r\n\r\n"
        elif self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left > 0 and not more):
                raise RuntimeError("the answer is not as long as it said")
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            front.write(data)
        if not more:
            self.complete = True
            self._wake()
            front.answered(self)

    # What our own application calls in its place, where nothing has to be waited for: messages cost more than bytes

    def body_here(self) -> bytes | None:
        """The request's whole body, fetched; None where it has to come by `receive`."""
        if self.more or self.delivered or self.disconnected:
            return None
        pieces, self._pieces, self.held = self._pieces, [], 0
        self.delivered = True
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send_whole(self, status: int, head: bytes, data: bytes) -> bool:
        """A whole answer; `head`: header lines but for its length. False: it has to go by `send`."""
        front = self._front
        if self.started or self.disconnected or front.write_paused or self.scope["method"] == "HEAD":
            return False
        self.started = self.complete = True
        if self.awaits_100 or self.more or front.stopping or b"connection: close\r\n" in head:
            self.keep_alive = False
        close = b"" if self.keep_alive or b"connection: close\r\n" in head else b"connection: close\r\n"
        front.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b" % (_line(status), front.usual(), head, len(data), close, data)
        )
        self._wake()
        front.answered(self)
        return True

    def send_piece(self, data: bytes) -> bool:
        """A piece of an answer that has begun and has more. False: it has to go by `send`."""
        if not self._chunked or self.disconnected or self._front.write_paused:
            return False
        self._front.write(b"%x\r\n%b\r\n" % (len(data), data))
        return True

    def _begin(self, message: "ASGIMessage") -> None:
        self.started = True
        status: int = message["status"]
        if self.awaits_100 or self.more:
            # Whether the client still sends its body, nobody can know: no further request is taken from it here.
            self.keep_alive = False
        parts = [_line(status)]
        headers = [*self._front.state.default_headers, *message["headers"]]
        lines = len(headers) + 2
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                self._left = int(value)
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
        if self._left is None and status not in _BODYLESS:
            self._chunked = self.scope["http_version"] == "1.1"
            if self._chunked:
                parts.append(b"transfer-encoding: chunked\r\n")
                lines += 1
            else:
                self.keep_alive = False  # its end is the connection's
        if not self.keep_alive or self._front.stopping:
            self.keep_alive = False
            parts.append(b"connection: close\r\n")
            lines += 1
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RuntimeError("a header of the answer has a line break in it")
        self._head = head
        if self._left is None:
            # A stream: its reader may wait long for the first piece, and shall know meanwhile that it comes.
            self._front.write(self._head)
            self._head = b""


def _line(status: int) -> bytes:
    return _LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
