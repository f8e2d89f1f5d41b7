"""The HTTP client of `bench.gateway`: requests over keep-alive connections, timed as the bytes arrive.

It parses HTTP with httptools on uvloop and takes times in the callbacks, so that one core can measure 512 streams
without slowing them. Requests are encoded before anything is timed.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from bench.gateway.mock_upstream import CHUNKS, PACE_S, WORD

_MORE_S = 5.0


@dataclass(frozen=True)
class Response:
    """One response. `seconds` from first byte sent to last received; `finished` is False if cut short."""

    status: int
    seconds: float
    body: bytes
    finished: bool = True


@dataclass(frozen=True)
class StreamResult:
    """Results of many streams: chunks received, chunks per second, streams finished, frames missing in those."""

    chunks: int
    rate: float
    finished: int
    missing: int
    hashes: frozenset[str]


class Client:
    """A client of one URL. Call `open` before anything is timed and `close` at the end."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        address = urlsplit(url)
        self._address = (str(address.hostname), address.port or 80)
        lines = [f"POST {address.path} HTTP/1.1", f"host: {address.netloc}", "content-type: application/json"]
        self._head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())]).encode()
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    def encode_request(self, body: bytes) -> bytes:
        """The bytes of a request."""
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)

    async def open(self, count: int) -> None:
        """Opens connections until `count` are idle."""
        while len(self._idle) < count:
            self._idle.append(await self._connect())

    def close(self) -> None:
        """Closes every connection, busy or not."""
        for connection in list(self._all):
            connection.drop()
        self._idle.clear()

    async def send(self, request: bytes) -> Response:
        """Sends a request made by `encode_request`; the response may be cut short by the server."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                break
        else:
            connection = await self._connect()
        try:
            response = await connection.send(request)
        except asyncio.CancelledError:
            connection.drop()
            raise
        if connection.alive and connection.reusable:
            self._idle.append(connection)
        return response

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._all, loop), *self._address)
        return connection

    def unfinished(self) -> list[bytes]:
        """The bodies received so far of unfinished responses."""
        return [b"".join(connection.pieces) for connection in self._all if connection.busy]


class _Connection(asyncio.Protocol):
    def __init__(self, connections: "set[_Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self.alive = self.busy = False
        self.reusable = True
        self.pieces: list[bytes] = []
        self._connections = connections
        self._loop = loop
        self._began = 0.0
        self._waiter: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def send(self, request: bytes) -> Response:
        assert self._transport is not None
        self.pieces = []
        self.busy = True
        self._waiter = self._loop.create_future()
        self._began = time.perf_counter()
        self._transport.write(request)
        try:
            return await self._waiter
        finally:
            self.busy = False

    def drop(self) -> None:
        self.alive = False
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.alive = True
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._connections.discard(self)
        self._end(finished=False)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.drop()

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.reusable = self._parser.should_keep_alive()
        self._end(finished=True)
        self._parser = httptools.HttpResponseParser(self)

    def _end(self, *, finished: bool) -> None:
        if self._waiter is None or self._waiter.done():
            return
        took = time.perf_counter() - self._began
        status = self._parser.get_status_code() if finished else 0
        self._waiter.set_result(Response(status, took, b"".join(self.pieces), finished))


async def send_all(client: Client, requests: Sequence[bytes], at_once: int) -> list[Response]:
    """Sends all requests, `at_once` of them in flight; returns the responses as they finish."""
    ended: list[Response] = []
    remaining = iter(requests)

    async def work() -> None:
        for request in remaining:
            ended.append(await client.send(request))  # noqa: PERF401 -- workers share the list

    await client.open(at_once)
    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return ended


async def time_requests(client: Client, request: bytes, count: int, at_once: int) -> float:
    """The seconds that `count` requests take with `at_once` in flight.

    Raises:
        ConnectionError: a status is not 200, which would make the figure meaningless.
    """
    await client.open(at_once)
    began = time.perf_counter()
    responses = await send_all(client, [request] * count, at_once)
    took = time.perf_counter() - began
    for response in responses:
        if response.status != 200:
            raise ConnectionError(f"status {response.status}: {response.body[:200].decode(errors='replace')}")
    return took


async def measure_streams(client: Client, request: bytes, at_once: int, each: int) -> StreamResult:
    """Measures `at_once` concurrent streams of the mock, `each` in sequence per connection; cuts off late ones.

    Starts are spread evenly over the length of one stream, like those of independent clients: streams that start
    together also end together, which would measure the setup of many requests instead. `rate` covers only the time in
    which all streams run.
    """
    length_s = CHUNKS * PACE_S
    ended: list[Response] = []
    counted = 0

    async def work(number: int) -> None:
        nonlocal counted
        await asyncio.sleep(number / at_once * length_s)
        for _ in range(each):
            response = await client.send(request)
            counted += response.body.count(WORD)
            ended.append(response)

    def so_far() -> tuple[float, int]:
        return time.perf_counter(), counted + sum(body.count(WORD) for body in client.unfinished())

    await client.open(at_once)
    began = time.perf_counter()
    tasks = [asyncio.ensure_future(work(number)) for number in range(at_once)]
    await asyncio.sleep(1.05 * length_s)
    early = so_far()
    await asyncio.sleep(began + each * length_s - time.perf_counter())
    late = so_far()
    slow = late[1] - early[1] < 0.5 * at_once / PACE_S * (late[0] - early[0])
    # A slow gateway has hardly begun by now and gets more time, so that not only its start is measured.
    _, unfinished = await asyncio.wait(tasks, timeout=_MORE_S if slow else 1.2 * length_s)
    end = so_far()
    late = end if slow else late
    chunks = end[1]
    for task in unfinished:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    failed = [result for result in results if isinstance(result, OSError)]
    if failed:
        raise failed[0]
    rate = (late[1] - early[1]) / (late[0] - early[0])
    missing = sum(max(CHUNKS - response.body.count(WORD), 0) for response in ended)
    return StreamResult(chunks, rate, len(ended), missing, frozenset(_hash(response.body) for response in ended))


def quantile(values: Sequence[float], share: float = 0.5) -> float:
    """The quantile of the values at `share`, from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
