"""The client of `bench.gateway`: requests over connections that stay open, timed as the bytes come. It judges nothing.

HTTP is parsed by httptools on uvloop, and times are taken in the callbacks, so that 512 streams on one core are
measured and not made slow. A request's bytes are written once, before anything is timed.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import httptools

from bench.gateway_mock import CHUNKS, PACE_S, WORD

_MORE_S = 5.0


@dataclass(frozen=True)
class Reply:
    """One answer. `seconds` from the request's first byte to the answer's last; `finished` is False where cut short."""

    status: int
    seconds: float
    body: bytes
    finished: bool = True


@dataclass(frozen=True)
class Streamed:
    """What many streams brought: chunks that came, and a second; streams that ended, and frames those had too few."""

    chunks: int
    rate: float
    finished: int
    missing: int
    hashes: frozenset[str]


class Client:
    """Asks one address. `open` before anything is timed; `close` at the end."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        place = urlsplit(url)
        self.place = (str(place.hostname), place.port or 80)
        lines = [f"POST {place.path} HTTP/1.1", f"host: {place.netloc}", "content-type: application/json"]
        self._head = "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())]).encode()
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()

    def written(self, body: bytes) -> bytes:
        """A request as it goes over the wire."""
        return b"%b\r\ncontent-length: %d\r\n\r\n%b" % (self._head, len(body), body)

    async def open(self, count: int) -> None:
        """Has so many connections ready."""
        while len(self._idle) < count:
            self._idle.append(await self._connect())

    def close(self) -> None:
        """Drops every connection, busy or not."""
        for connection in list(self._all):
            connection.drop()
        self._idle.clear()

    async def ask(self, request: bytes) -> Reply:
        """Sends a request made by `written`; the answer, or what there was of it when the other end hung up."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                break
        else:
            connection = await self._connect()
        try:
            reply = await connection.ask(request)
        except asyncio.CancelledError:
            connection.drop()
            raise
        if connection.alive and connection.reusable:
            self._idle.append(connection)
        return reply

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: _Connection(self._all, loop), *self.place)
        return connection

    def unfinished(self) -> list[bytes]:
        """The bodies of answers that are still on their way."""
        return [b"".join(connection.pieces) for connection in self._all if connection.busy]


class _Connection(asyncio.Protocol):
    def __init__(self, everybody: "set[_Connection]", loop: asyncio.AbstractEventLoop) -> None:
        self.alive = self.busy = False
        self.reusable = True
        self.pieces: list[bytes] = []
        self._everybody = everybody
        self._loop = loop
        self._began = 0.0
        self._waiter: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, request: bytes) -> Reply:
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
        self._everybody.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.alive = False
        self._everybody.discard(self)
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
        self._waiter.set_result(Reply(status, took, b"".join(self.pieces), finished))


async def answers(client: Client, requests: Sequence[bytes], at_once: int) -> list[Reply]:
    """All the answers, `at_once` requests in flight until they are used up."""
    ended: list[Reply] = []
    left = iter(requests)

    async def work() -> None:
        for request in left:
            ended.append(await client.ask(request))  # noqa: PERF401 -- each as it ends: workers share the list

    await client.open(at_once)
    tasks = [asyncio.ensure_future(work()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return ended


async def flood(client: Client, request: bytes, count: int, at_once: int) -> float:
    """Seconds that `count` requests take, `at_once` in flight all the time.

    Raises:
        ConnectionError: one was not answered with 200: the figures would say nothing.
    """
    await client.open(at_once)
    began = time.perf_counter()
    replies = await answers(client, [request] * count, at_once)
    took = time.perf_counter() - began
    for reply in replies:
        if reply.status != 200:
            raise ConnectionError(f"status {reply.status}: {reply.body[:200].decode(errors='replace')}")
    return took


async def streams(client: Client, request: bytes, at_once: int, each: int) -> Streamed:
    """`at_once` streams of the mock all the time, `each` after each other on a connection; what is late is cut off.

    They begin evenly over the length of one stream, as clients do who do not know of each other: begun all at once they
    would also end all at once, and what is measured would be how long so many requests take. `rate` is of the time in
    which all of them run.
    """
    length_s = CHUNKS * PACE_S
    ended: list[Reply] = []
    counted = 0

    async def work(number: int) -> None:
        nonlocal counted
        await asyncio.sleep(number / at_once * length_s)
        for _ in range(each):
            reply = await client.ask(request)
            counted += reply.body.count(WORD)
            ended.append(reply)

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
    # What is far behind has hardly begun by now: it gets more time, so that not its beginning alone is measured.
    _, unfinished = await asyncio.wait(tasks, timeout=_MORE_S if slow else 1.2 * length_s)
    end = so_far()
    late = end if slow else late
    chunks = end[1]
    for task in unfinished:
        task.cancel()
    failed = [one for one in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(one, OSError)]
    if failed:
        raise failed[0]
    rate = (late[1] - early[1]) / (late[0] - early[0])
    missing = sum(max(CHUNKS - reply.body.count(WORD), 0) for reply in ended)
    return Streamed(chunks, rate, len(ended), missing, frozenset(_hash(reply.body) for reply in ended))


def middle(values: Sequence[float], share: float = 0.5) -> float:
    """The value below which `share` of the values are."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
