"""HTTP/1.1 client for engines: a pool of keep-alive connections, parsed by httptools. It knows no models.

An engine takes plain POSTs, so everything else that a general client does (redirects, cookies, proxies, decompression)
is left out: it was three quarters of the gateway's cost. Hosted upstreams need it and are reached through
`serve.transport.upstream_client`.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from serve.transport.asgi import Headers
from serve.transport.timeouts import Timeouts

MAX_RESPONSE_BYTES = 2**28  # embeddings of many texts reach a quarter of that
_MAX_BUFFERED_BYTES = 2**18  # beyond that, reading from the engine pauses until the client has caught up
_MAX_HEAD_BYTES = 2**17
_CHECK_INTERVAL_S = 1.0


class ConnectionBroken(ConnectionError):
    """The connection ended, or carried invalid HTTP, before the response was complete."""


class Unreachable(ConnectionError):
    """No connection could be made. Nothing was sent, so the request may go elsewhere."""


# Host and port of an engine, and whether it uses TLS.
_Endpoint = tuple[str, int, bool]


class EnginePool:
    """Open connections by address. One per event loop; `close` runs at its end. `tls`: for https addresses."""

    def __init__(self, timeouts: Timeouts, *, idle_limit_s: float, tls: ssl.SSLContext | None = None) -> None:
        self._timeouts = timeouts
        self._idle_limit_s = idle_limit_s
        self._tls = tls
        self._idle: dict[_Endpoint, deque[EngineConnection]] = {}
        self._connections: set[EngineConnection] = set()
        self._timeout_check: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Closes every connection."""
        if self._timeout_check:
            self._timeout_check.cancel()
        for connection in list(self._connections):
            connection.close()

    async def post(self, address: str, path: str, body: bytes, authorization: str | None) -> "EngineConnection":
        """Sends a JSON request and returns once the response headers have arrived. Always `release` the result.

        The engine may have closed an idle connection. If that shows before any byte of a response, the request is sent
        again on
        a new connection, which is safe because a generation changes no state.

        Raises:
            Unreachable: no connection. ConnectionBroken: it ended. TimeoutError: a timeout was reached.
        """
        endpoint, head = _request_head(address, path, authorization)
        request = b"%b%d\r\n\r\n%b" % (head, len(body), body)
        idle = self._idle.get(endpoint)
        while idle:
            connection = idle.pop()
            if connection.usable:
                try:
                    await connection.send_request(request)
                    return connection
                except ConnectionBroken:
                    if connection.responded:
                        raise
                    break
        connection = await self._connect(endpoint)
        await connection.send_request(request)
        return connection

    def add(self, connection: "EngineConnection") -> None:
        """Registers a new connection for the timeout check, which the first one starts."""
        self._connections.add(connection)
        if self._timeout_check is None:
            self._timeout_check = asyncio.get_running_loop().create_task(self._check_timeouts())

    def remove(self, connection: "EngineConnection") -> None:
        """Forgets a connection that has ended."""
        self._connections.discard(connection)

    def put_back(self, connection: "EngineConnection") -> None:
        """Keeps an idle connection for the next request."""
        idle = self._idle.get(connection.endpoint)
        if idle is None:
            idle = self._idle[connection.endpoint] = deque()
        idle.append(connection)

    async def _connect(self, endpoint: _Endpoint) -> "EngineConnection":
        loop = asyncio.get_running_loop()
        host, port, secure = endpoint
        tls = (self._tls or True) if secure else None
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                _, connection = await loop.create_connection(
                    lambda: EngineConnection(endpoint, self, loop), host, port, ssl=tls
                )
        except OSError as error:  # includes TimeoutError
            raise Unreachable(str(error)) from error
        return connection

    async def _check_timeouts(self) -> None:
        """Checks all connections once a second: a timer for each piece would cost more than the piece."""
        loop = asyncio.get_running_loop()
        interval_s = min(_CHECK_INTERVAL_S, self._timeouts.shortest_s / 4)
        while True:
            await asyncio.sleep(interval_s)
            now = loop.time()
            for connection in list(self._connections):
                if connection.busy:
                    if connection.overdue(now, self._timeouts):
                        connection.fail(TimeoutError())
                elif now - connection.last_received > self._idle_limit_s:
                    connection.close()
            for endpoint, idle in list(self._idle.items()):
                self._idle[endpoint] = deque(connection for connection in idle if connection.usable)
                if not self._idle[endpoint]:
                    del self._idle[endpoint]


class EngineConnection(asyncio.Protocol):
    """A connection with one request at a time, and the response to it. httptools calls the `on_…` methods."""

    def __init__(self, endpoint: _Endpoint, pool: EnginePool, loop: asyncio.AbstractEventLoop) -> None:
        self.endpoint = endpoint
        self.status = 0
        self.headers: Headers = []
        self.last_received = self.sent_at = loop.time()
        self.busy = False
        self.responded = False  # some bytes of the current response have arrived
        self._pool = pool
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], bool] | None = None
        self._pieces: list[bytes] = []
        self._buffered_bytes = 0
        self._head_bytes = 0
        self._paused = False
        self._head_received = False  # the headers of the current response are complete
        self._complete = False
        self._keep_alive = False
        self._error: Exception | None = None

    @property
    def usable(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing() and not self.busy

    def overdue(self, now: float, timeouts: Timeouts) -> bool:
        """Whether the current response has exceeded a timeout. Silence does not count while reading is paused."""
        if now - self.sent_at > timeouts.total_s:
            return True
        if not self._head_received:
            return now - self.sent_at > timeouts.first_byte_s
        return now - self.last_received > timeouts.idle_s and not self._paused

    async def send_request(self, request: bytes) -> None:
        """Sends a request and waits for the response headers."""
        transport = self._transport
        if transport is None:
            raise ConnectionBroken("the connection is closed")
        self.busy, self.headers, self._error = True, [], None
        self.responded = self._head_received = self._complete = self._keep_alive = False
        self.sent_at, self._head_bytes = self._loop.time(), 0
        transport.write(request)
        try:
            while not self._head_received:
                if self._error is not None:
                    raise self._error
                self._waiter = self._loop.create_future()
                await self._waiter
        except BaseException:
            self.close()
            raise

    # The response

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty if there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    def buffered_body(self) -> bytes:
        """The whole body if it came with the headers, as short ones do; empty if it has to be read."""
        return self._pieces[0] if self._complete and len(self._pieces) == 1 else b""

    async def read_piece(self) -> bytes:
        """What has arrived since the last call, at least a byte; empty once the response is complete.

        Raises:
            ConnectionBroken, TimeoutError: as `EnginePool.post`.
        """
        while not self._pieces:
            if self._complete:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered_bytes = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self.last_received = self._loop.time()
            self._transport.resume_reading()
        return data

    async def wait_for_body(self) -> None:
        """Returns once some of the body has arrived, or the response is complete. Raises as `read_piece`."""
        while not self._pieces and not self._complete:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter

    async def stream_to(self, sink: Callable[[bytes], bool]) -> None:
        """Passes pieces to `sink` as they arrive, until it returns False or the response ends.

        No task is woken for a piece that way, which was a third of the cost of a streamed piece.
        """
        self._sink = sink
        try:
            while self._sink is not None and not self._complete and self._error is None:
                self._waiter = self._loop.create_future()
                await self._waiter
        finally:
            self._sink = None

    async def read(self) -> bytes:
        """The whole body. Raises ConnectionBroken if it exceeds `MAX_RESPONSE_BYTES`, and as `read_piece`."""
        return await read_whole(self.read_piece)

    def release(self) -> None:
        """Ends the use of the response. If it was not read to its end, the connection is closed to stop the engine."""
        if not self.busy:
            return
        self.busy = False
        self._pieces.clear()
        self._buffered_bytes = 0
        if self._keep_alive and self._error is None and self.usable:
            self.last_received = self._loop.time()
            self._pool.put_back(self)
        else:
            self.close()

    def fail(self, error: Exception) -> None:
        """Ends the current response with an error."""
        if self._error is None and not self._complete:
            self._error = error
        self._wake()
        self.close()

    def close(self) -> None:
        """Closes the connection at once."""
        self._pool.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pool.add(self)

    def data_received(self, data: bytes) -> None:
        self.last_received = self._loop.time()
        if not self.busy:  # bytes without a request
            self.close()
            return
        self.responded = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail(ConnectionBroken(f"invalid HTTP: {error}"))
            return
        if not self._head_received:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self.fail(ConnectionBroken("the headers are too large"))
                return
        elif self._sink is not None and self._pieces:
            pieces = self._pieces
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._buffered_bytes = 0
            try:
                if self._sink(piece) and not self._complete:
                    return
            except Exception as error:
                self._error = error  # raised to the request, not to the event loop
            self._sink = None
        elif self._buffered_bytes > _MAX_BUFFERED_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.remove(self)
        self._transport = None
        self._parser = cast(Any, None)  # breaks the reference cycle between the two
        if (
            self._head_received
            and exc is None
            and not (self.header(b"content-length") or self.header(b"transfer-encoding"))
        ):
            # Without a length or chunks, the end of the connection is the end of the response.
            self._complete = True
        elif self.busy and not self._complete and self._error is None:
            self._error = ConnectionBroken("the connection ended")
        self._wake()

    # httptools' calls

    def on_message_begin(self) -> None:
        if self._complete:
            # A second response without a request: stops the parser and ends the connection.
            raise ConnectionBroken("an unexpected second response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        if self.status >= 200:  # 100 and 103 precede the response
            self._head_received = True
        else:
            self.headers = []

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._buffered_bytes += len(body)

    def on_message_complete(self) -> None:
        if self._head_received:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()


async def read_whole(read_piece: Callable[[], Awaitable[bytes]]) -> bytes:
    """All pieces of a body. Raises ConnectionBroken if they exceed `MAX_RESPONSE_BYTES`."""
    pieces, size = [], 0
    while piece := await read_piece():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_RESPONSE_BYTES:
            raise ConnectionBroken(f"a response of more than {MAX_RESPONSE_BYTES} bytes")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@lru_cache(maxsize=1024)
def _request_head(address: str, path: str, authorization: str | None) -> tuple[_Endpoint, bytes]:
    """An address's endpoint, and the request head up to the content length. Cached per engine and route."""
    parts = urlsplit(address)
    lines = [
        f"POST {parts.path}{path} HTTP/1.1",
        f"host: {parts.netloc}",
        "content-type: application/json",
        *([f"authorization: {authorization}"] if authorization else []),
        "content-length: ",
    ]
    secure = parts.scheme == "https"
    return (parts.hostname or "", parts.port or (443 if secure else 80), secure), "\r\n".join(lines).encode("latin-1")
