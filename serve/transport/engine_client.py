"""HTTP/1.1 to engines: one pool of open connections, bytes parsed by httptools. It knows no model and no OpenAI.

An engine is on loopback, speaks plain HTTP and is asked by POST alone, so that all a general client can do beside
(redirects, cookies, TLS, proxies, decompression) is left out: it was three quarters of what the gateway cost.
Hosted upstreams need those things, and have `serve.transport.upstream_client` for them.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from serve.transport.responses import Headers
from serve.transport.timeouts import Timeouts

MOST = 2**28  # bytes that a whole answer may have: embeddings of many texts have a quarter of that
_BUFFERED = 2**18  # bytes that wait for a slow reader before the engine is told to wait too
_HEAD_MOST = 2**17  # bytes that may come before an answer's headers are whole
_SWEEP_S = 1.0


class Broken(ConnectionError):
    """The connection ended, or what came over it was no HTTP, before the answer was whole."""


class Unreachable(ConnectionError):
    """There was no connection to be had: nothing was sent, so anybody may be asked instead."""


class Pool:
    """Open connections by address. One for each event loop; `open` starts its sweeper, `close` ends all of it."""

    def __init__(self, timeouts: Timeouts, *, unused_s: float) -> None:
        self._timeouts = timeouts
        self._unused_s = unused_s
        self._idle: dict[tuple[str, int], deque[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begins to watch for silent and for unused connections."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def close(self) -> None:
        """Drops every connection."""
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.drop()

    async def post(self, address: str, path: str, body: bytes, authorization: str | None) -> "Connection":
        """Sends JSON; returns once the answer's headers are there. `leave` the answer in any case.

        A connection that was idle may turn out to be closed at the other end. Where that shows before anything
        was answered the request is sent once more, on a new one: what an engine writes changes nothing anywhere.

        Raises:
            Unreachable: no connection. Broken: it ended. TimeoutError: the answer took longer than it may.
        """
        place, opening = _opening(address, path, authorization)
        request = b"%b%d\r\n\r\n%b" % (opening, len(body), body)
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            if connection.usable:
                try:
                    await connection.ask(request)
                    return connection
                except Broken:
                    if connection.answered:
                        raise
                    break
        connection = await self._connect(place)
        await connection.ask(request)
        return connection

    def joins(self, connection: "Connection") -> None:
        """A new connection, to be watched."""
        self._all.add(connection)

    def left(self, connection: "Connection") -> None:
        """A connection that has ended."""
        self._all.discard(connection)

    def give_back(self, connection: "Connection") -> None:
        """Keeps a connection for the next request."""
        idle = self._idle.get(connection.place)
        if idle is None:
            idle = self._idle[connection.place] = deque()
        idle.append(connection)

    async def _connect(self, place: tuple[str, int]) -> "Connection":
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await loop.create_connection(lambda: Connection(place, self, loop), *place)
        except OSError as error:  # TimeoutError is one
            raise Unreachable(str(error)) from error
        return connection

    async def _sweep(self) -> None:
        """A look at all connections once a second: a timer for each piece would cost more than the piece."""
        loop = asyncio.get_running_loop()
        every_s = min(_SWEEP_S, self._timeouts.least / 4)
        while True:
            await asyncio.sleep(every_s)
            now = loop.time()
            for connection in list(self._all):
                if connection.busy:
                    if connection.overdue(now, self._timeouts):
                        connection.fail(TimeoutError())
                elif now - connection.heard > self._unused_s:
                    connection.drop()
            for place, idle in list(self._idle.items()):
                self._idle[place] = deque(one for one in idle if one.usable)
                if not self._idle[place]:
                    del self._idle[place]


class Connection(asyncio.Protocol):
    """One connection, one request at a time; and the answer to it. httptools calls the `on_…` methods."""

    def __init__(self, place: tuple[str, int], pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self.place = place
        self.status = 0
        self.headers: Headers = []
        self.heard = self.asked = loop.time()
        self.busy = False
        self.answered = False  # anything has come of the present answer
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._head = 0
        self._paused = False
        self._begun = False  # the headers of the present answer are there
        self._whole = False
        self._keep = False
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self.busy

    def overdue(self, now: float, timeouts: Timeouts) -> bool:
        """Whether the present answer takes longer than it may. Silence is none while we do not listen."""
        if now - self.asked > timeouts.total_s:
            return True
        if not self._begun:
            return now - self.asked > timeouts.first_byte_s
        return now - self.heard > timeouts.idle_s and not self._paused

    async def ask(self, request: bytes) -> None:
        """Sends a request and waits for the answer's headers."""
        transport = self._transport
        if transport is None:
            raise Broken("the connection is closed")
        self.busy, self.headers, self._error = True, [], None
        self.answered = self._begun = self._whole = self._keep = False
        self.asked, self._head = self._loop.time(), 0
        transport.write(request)
        try:
            while not self._begun:
                if self._error is not None:
                    raise self._error
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.drop()
            raise

    # The answer

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def at_once(self) -> bytes:
        """All of the body, where it came with the headers as short ones do; empty where it has to be read."""
        return self._pieces[0] if self._whole and len(self._pieces) == 1 else b""

    async def piece(self) -> bytes:
        """What has come since the last time, at least a byte; empty once the answer is whole.

        Raises:
            Broken, TimeoutError: as `Pool.post`.
        """
        while not self._pieces:
            if self._whole:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self.heard = self._loop.time()
            self._transport.resume_reading()
        return data

    async def pour(self, sink: Callable[[bytes], bool]) -> None:
        """Hands what comes to `sink` in the moment it comes, until that says False, or nothing more can come.

        Nobody is woken for a piece that way, which was a third of what a streamed piece cost.
        """
        self._sink = sink
        try:
            while self._sink is not None and not self._whole and self._error is None:
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._sink = None

    async def read(self) -> bytes:
        """All of the body. Raises Broken where it has more than `MOST` bytes, and as `piece`."""
        pieces, size = [], 0
        while piece := await self.piece():
            pieces.append(piece)
            size += len(piece)
            if size > MOST:
                raise Broken(f"an answer of more than {MOST} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def leave(self) -> None:
        """The answer is done with: what was not read is not worth reading, and the engine shall stop writing it."""
        if not self.busy:
            return
        self.busy = False
        self._pieces.clear()
        self._held = 0
        if self._keep and self._error is None and self.usable:
            self.heard = self._loop.time()
            self._pool.give_back(self)
        else:
            self.drop()

    def fail(self, error: Exception) -> None:
        """Ends the present answer with an error."""
        if self._error is None and not self._whole:
            self._error = error
        self._wake()
        self.drop()

    def drop(self) -> None:
        """Closes the connection at once."""
        self._pool.left(self)
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.joins(self)

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        if not self.busy:  # nobody asked
            self.drop()
            return
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(Broken(f"no HTTP: {error}"))
            return
        if not self._begun:
            self._head += len(data)
            if self._head > _HEAD_MOST:
                self.fail(Broken("headers without end"))
                return
        elif self._sink is not None and self._pieces:
            pieces = self._pieces
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._held = 0
            try:
                if self._sink(piece) and not self._whole:
                    return
            except Exception as error:
                self._error = error  # its request's, not the event loop's
            self._sink = None
        elif self._held > _BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.left(self)
        self._transport = None
        self._parser = cast(Any, None)  # the two hold one another, and nothing comes any more
        if self._begun and exc is None and not (self.header(b"content-length") or self.header(b"transfer-encoding")):
            # Its end was the connection's: it had neither a length nor chunks.
            self._whole = True
        elif self.busy and not self._whole and self._error is None:
            self._error = Broken("the connection ended")
        self._wake()

    # httptools' calls

    def on_message_begin(self) -> None:
        if self._whole:
            # Another answer, which nobody asked for: the parser stops here, and the connection is not used again.
            raise Broken("one answer too many")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:  # 100 and 103 announce the answer, and are none
            self._begun = True
        else:
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)

    def on_message_complete(self) -> None:
        if self._begun:
            self._whole = True
            self._keep = self._parser.should_keep_alive()


@lru_cache(maxsize=1024)
def _opening(address: str, path: str, authorization: str | None) -> tuple[tuple[str, int], bytes]:
    """Host and port of an address, and how a request to it begins, up to its length: as many as engines and routes."""
    parts = urlsplit(address)
    lines = [
        f"POST {parts.path}{path} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        *([f"authorization: {authorization}"] if authorization else []),
        "content-length: ",
    ]
    return (parts.hostname or "", parts.port or 80), "\r\n".join(lines).encode("latin-1")
