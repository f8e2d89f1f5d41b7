"""HTTP/1.1 to engines: one pool of open connections, bytes parsed by httptools. It knows no model and no OpenAI.

An engine is on loopback, speaks plain HTTP and is asked by POST alone, so that all a general client can do beside
(redirects, cookies, TLS, proxies, decompression) is left out: it was three quarters of what the gateway cost.
Hosted upstreams need those things, and have `serve.upstreams` for them.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import cast
from urllib.parse import urlsplit

import httptools

from serve.replies import Headers

_BUFFERED = 2**18  # bytes that wait for a slow reader before the engine is told to wait too
MOST = 2**28  # bytes that a whole answer may have: embeddings of many texts have a quarter of that
_HEAD_MOST = 2**17  # bytes that may come before an answer's headers are whole
_SWEEP_S = 1.0


class Broken(ConnectionError):
    """The connection ended, or what came over it was no HTTP, before the answer was whole."""


class Pool:
    """Open connections by address. One for each event loop; `open` starts its sweeper, `close` ends all of it."""

    def __init__(self, *, connect_s: float, silence_s: float, idle_s: float) -> None:
        self._connect_s = connect_s
        self._silence_s = silence_s
        self._idle_s = idle_s
        self._idle: dict[tuple[str, int], deque[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._sweeper: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begins to watch for silent and for idle connections."""
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    def close(self) -> None:
        """Drops every connection."""
        if self._sweeper:
            self._sweeper.cancel()
        for connection in list(self._all):
            connection.drop()

    async def post(self, address: str, body: bytes, headers: Mapping[str, str]) -> "Answer":
        """Sends a request; returns once the answer's headers are there. Leave the answer's block to give it back.

        A connection that was idle may turn out to be closed at the other end. Where that shows before anything
        was answered the request is sent once more, on a new one.

        Raises:
            OSError: no connection; Broken: it ended; TimeoutError: silence for longer than is allowed.
        """
        place, opening = _opening(address)
        request = _written(opening, body, headers)
        idle = self._idle.get(place)
        while idle:
            connection = idle.pop()
            if connection.usable:
                try:
                    return await connection.ask(request, self)
                except Broken:
                    if connection.answered:
                        raise
                    break
        return await (await self._connect(place)).ask(request, self)

    def give_back(self, connection: "_Connection") -> None:
        """Keeps a connection for the next request."""
        self._idle.setdefault(connection.place, deque()).append(connection)

    async def _connect(self, place: tuple[str, int]) -> "_Connection":
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._connect_s):
            _, connection = await loop.create_connection(lambda: _Connection(place, self._all, loop), *place)
        return connection

    async def _sweep(self) -> None:
        """One look a second at all connections: a timer for each piece would cost more than the piece."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            for connection in list(self._all):
                quiet = now - connection.heard
                if connection.busy:
                    if quiet > self._silence_s and not connection.held_back:
                        connection.fail(TimeoutError())
                elif quiet > self._idle_s:
                    connection.drop()
            for place, idle in list(self._idle.items()):
                self._idle[place] = deque(one for one in idle if one.usable)
                if not self._idle[place]:
                    del self._idle[place]


class Answer:
    """An answer whose headers are there. As a context manager it gives the connection back, or drops it unread."""

    __slots__ = ("_connection", "_pool", "headers", "status")

    def __init__(self, connection: "_Connection", pool: Pool) -> None:
        self._connection = connection
        self._pool = pool
        self.status = connection.status
        self.headers: Headers = connection.headers

    async def __aenter__(self) -> "Answer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.leave(self._pool)

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    async def piece(self) -> bytes:
        """What has come since the last time, at least a byte; empty once the answer is whole.

        Raises:
            Broken, TimeoutError: as `Pool.post`.
        """
        return await self._connection.piece()

    async def read(self) -> bytes:
        """All of the body. Raises Broken where it has more than `MOST` bytes, and as `piece`."""
        pieces, size = [], 0
        while piece := await self._connection.piece():
            pieces.append(piece)
            size += len(piece)
            if size > MOST:
                raise Broken(f"an answer of more than {MOST} bytes")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Connection(asyncio.Protocol):
    """One connection, one request at a time. httptools calls the `on_…` methods while it is fed."""

    def __init__(self, place: tuple[str, int], everybody: "set[_Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self.place = place
        self.status = 0
        self.headers: Headers = []
        self.heard = loop.time()
        self.busy = False
        self.answered = False
        self._everybody = everybody
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._held = 0
        self._head = 0
        self._paused = False
        self._begun = False  # the headers of the present answer are there
        self._whole = False
        self._until_close = False  # its end is the connection's: neither a length nor chunks
        self._keep = False
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self.busy

    @property
    def held_back(self) -> bool:
        """Whether it is silent because we do not listen: its reader is slow."""
        return self._paused

    async def ask(self, request: bytes, pool: Pool) -> Answer:
        """Sends a request and waits for the answer's headers."""
        transport = self._transport
        if transport is None:
            raise Broken("the connection is closed")
        self.busy, self.headers, self._error = True, [], None
        self.answered = self._begun = self._whole = self._until_close = self._keep = False
        self.heard, self._head = self._loop.time(), 0
        transport.write(request)
        try:
            while not self._begun:
                if self._error is not None:
                    raise self._error
                await self._wait()
        except BaseException:
            self.drop()
            raise
        return Answer(self, pool)

    async def piece(self) -> bytes:
        while not self._pieces:
            if self._whole:
                return b""
            if self._error is not None:
                raise self._error
            await self._wait()
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def leave(self, pool: Pool) -> None:
        """The answer is done with: what was not read is not worth reading, and the engine shall stop writing it."""
        if not self.busy:
            return
        self.busy = False
        self._pieces.clear()
        if self._keep and self._error is None and self.usable:
            pool.give_back(self)
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
        self._everybody.discard(self)
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._everybody.add(self)

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
        if self._held > _BUFFERED and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.discard(self)
        self._transport = None
        if self._begun and self._until_close and exc is None:
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
        names = {name for name, _ in self.headers}
        self._until_close = b"content-length" not in names and b"transfer-encoding" not in names
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
def _opening(address: str) -> tuple[tuple[str, int], str]:
    """Host and port of an address, and how a request to it begins. There are as many as engines and routes."""
    parts = urlsplit(address)
    return (parts.hostname or "", parts.port or 80), f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"


def _written(opening: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"{opening}content-length: {len(body)}\r\n{lines}\r\n".encode("latin-1") + body
