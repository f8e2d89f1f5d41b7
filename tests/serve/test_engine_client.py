"""The pool of connections to engines, against servers that write exactly the bytes of a test."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from serve.transport.engine_client import ConnectionBroken, EngineConnection, EnginePool, Unreachable
from serve.transport.timeouts import Timeouts

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """Counts connections and requests. `script` answers each request."""

    script: Script
    address: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                await self.script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Server]:
    made = Server(script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()


def patient(**limits: float) -> Timeouts:
    """Timeouts that no test reaches, except for those in `limits`."""
    return Timeouts(**({"connect_s": 2, "first_byte_s": 30, "idle_s": 30, "total_s": 60} | limits))


@asynccontextmanager
async def running(script: Script, **limits: float) -> AsyncIterator[tuple[Server, EnginePool]]:
    pool = EnginePool(patient(**limits), idle_limit_s=30)
    async with serving(script) as server:
        try:
            yield server, pool
        finally:
            pool.close()


def drips_until(gone: asyncio.Event) -> Script:
    """A body without an end. `gone` is set when the client has closed the connection."""

    async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            gone.set()

    return drips


@contextlib.contextmanager
def full_queue() -> Iterator[str]:
    """The address of a socket that listens with no room left in its queue, and whose owner never accepts."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def writes(*pieces: bytes, close: bool = False) -> Script:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        if close:
            writer.close()

    return script


async def read(pool: EnginePool, address: str, body: bytes = b"{}") -> bytes:
    async with response_of(pool, address, body) as answer:
        assert answer.status == 200
        assert answer.header(b"content-type") == b"text/plain"
        return await answer.read()


@asynccontextmanager
async def response_of(pool: EnginePool, address: str, body: bytes = b"{}") -> AsyncIterator[EngineConnection]:
    answer = await pool.post(address, "/chat", body, "Bearer x")
    try:
        yield answer
    finally:
        answer.release()


@pytest.mark.parametrize(
    "pieces",
    [
        (HEAD + b"content-length: 5\r\n\r\nhello",),
        (HEAD + b"Content-Length: 5\r\n\r\nhe", b"llo"),
        (HEAD + b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n", b"3\r\nllo\r\n0\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", HEAD[:9], HEAD[9:] + b"content-length: 5\r\n\r\nhello"),
    ],
)
async def test_an_answer_in_any_shape_is_read_and_its_connection_used_again(pieces: tuple[bytes, ...]) -> None:
    async with running(writes(*pieces)) as (server, pool):
        assert [await read(pool, server.address) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 1
        assert server.requests[0].startswith(b"POST /v1/chat HTTP/1.1\r\nhost: 127.0.0.1:")
        assert b"\r\nauthorization: Bearer x\r\n" in server.requests[0]
        assert server.requests[0].endswith(b"\r\ncontent-length: 2\r\n\r\n{}")


async def test_a_body_that_ends_with_its_connection_is_whole() -> None:
    async with running(writes(HEAD + b"\r\nhel", b"lo", close=True)) as (server, pool):
        assert [await read(pool, server.address) for _ in range(2)] == [b"hello"] * 2
        assert server.connections == 2


@pytest.mark.parametrize(
    "started", [b"content-length: 9\r\n\r\nhel", b"transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n"]
)
async def test_a_truncated_body_is_an_error_and_not_requested_again(started: bytes) -> None:
    async with running(writes(HEAD + started, close=True)) as (server, pool):
        with pytest.raises(ConnectionBroken):
            await read(pool, server.address)
        assert len(server.requests) == 1


async def test_what_is_no_http_is_broken() -> None:
    async with running(writes(b"SSH-2.0-OpenSSH\r\n\r\n")) as (server, pool):
        with pytest.raises(ConnectionBroken, match="invalid HTTP"):
            await read(pool, server.address)


async def test_headers_without_end_are_broken_and_fill_no_memory() -> None:
    lines = [b"x-%d: %b\r\n" % (number, b"a" * 1000) for number in range(5000)]
    async with running(writes(HEAD + b"".join(lines))) as (server, pool):
        with pytest.raises(ConnectionBroken, match="headers"):
            await read(pool, server.address)
    async with running(writes(HEAD + b"x-endless: ", b"a" * 2**20)) as (server, pool):
        with pytest.raises(ConnectionBroken, match="headers"):
            await read(pool, server.address)
        assert len(server.requests) == 1


async def test_an_unrequested_answer_reaches_no_client() -> None:
    other = HEAD + b"content-length: 6\r\n\r\nothers"
    async with running(writes(HEAD + b"content-length: 5\r\n\r\nhello" + other)) as (server, pool):
        assert [await read(pool, server.address) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 3  # a connection that is out of step is not used again


async def test_an_idle_connection_that_was_closed_is_replaced() -> None:
    async with running(writes(HEAD + b"content-length: 5\r\n\r\nhello", close=True)) as (server, pool):
        # At once, while the other end is about to close, and some time after it has closed.
        for wait_s in (0, 0, 0.1, 0.1):
            await asyncio.sleep(wait_s)
            assert await read(pool, server.address) == b"hello"
        assert server.connections >= 3


async def test_a_request_on_a_silent_new_connection_is_not_repeated() -> None:
    async with running(writes(close=True)) as (server, pool):
        with pytest.raises(ConnectionBroken):
            await read(pool, server.address)
        assert len(server.requests) == 1


@pytest.mark.long
async def test_silence_has_an_end() -> None:
    async def silent(*_: object) -> None:
        await asyncio.sleep(60)

    for limit in ("first_byte_s", "total_s"):
        async with running(silent, **{limit: 0.2}) as (server, pool):
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(read(pool, server.address), 5)
            assert time.monotonic() - began < 1


@pytest.mark.parametrize("limit", ["idle_s", "total_s"])
async def test_silence_within_an_answer_has_an_end_of_its_own(limit: str) -> None:
    async def falls_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 9\r\n\r\nhello")
        await asyncio.sleep(60)

    async with running(falls_silent, **{limit: 0.2}) as (server, pool), response_of(pool, server.address) as answer:
        assert await answer.read_piece() == b"hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.read_piece(), 5)


@pytest.mark.long
async def test_headers_that_drip_are_no_first_byte() -> None:
    async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        while True:
            writer.write(b"x: y\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with running(drips, first_byte_s=0.3) as (server, pool):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(pool, server.address), 5)


@pytest.mark.long
async def test_a_drip_that_never_rests_ends_with_the_whole_answers_time() -> None:
    async def drips(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with running(drips, idle_s=0.2, total_s=0.6) as (server, pool):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(pool, server.address), 5)
        assert time.monotonic() - began > 0.5


@pytest.mark.long
async def test_a_slow_reader_slows_the_engine_and_is_no_silence() -> None:
    written = 0

    async def floods(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(HEAD + b"content-length: 20000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    async with running(floods, idle_s=0.2) as (server, pool), response_of(pool, server.address) as answer:
        await asyncio.sleep(1)
        assert written < 15_000_000
        assert len(await answer.read()) == 20_000_000


async def test_a_client_that_leaves_early_closes_the_connection() -> None:
    gone = asyncio.Event()
    async with running(drips_until(gone)) as (server, pool):
        async with response_of(pool, server.address) as answer:
            assert await answer.read_piece()
        await asyncio.wait_for(gone.wait(), 2)


async def test_nobody_there_is_a_connection_error() -> None:
    async with running(writes()) as (server, pool):
        pass
    pool = EnginePool(Timeouts(connect_s=2, first_byte_s=5, idle_s=5, total_s=5), idle_limit_s=5)
    with pytest.raises(Unreachable):
        await read(pool, server.address)


async def test_a_connection_that_takes_too_long_is_none() -> None:
    with full_queue() as address:
        pool = EnginePool(Timeouts(connect_s=0.2, first_byte_s=5, idle_s=5, total_s=5), idle_limit_s=5)
        began = time.monotonic()
        with pytest.raises(Unreachable):
            await read(pool, address)
        assert time.monotonic() - began < 2
