"""Hosted upstreams on real sockets: each of the four timeouts; only connecting is retried, never a request."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from serve.transport.engine_client import ConnectionBroken, Unreachable
from serve.transport.upstream_client import HostedResponse, UpstreamClient
from tests.serve.test_engine_client import HEAD, Script, Server, drips_until, full_queue, patient, serving, writes


@asynccontextmanager
async def running(script: Script, **limits: float) -> AsyncIterator[tuple[Server, UpstreamClient]]:
    async with serving(script) as server, opened(**limits) as upstreams:
        yield server, upstreams


@asynccontextmanager
async def opened(**limits: float) -> AsyncIterator[UpstreamClient]:
    upstreams = UpstreamClient(patient(**limits))
    upstreams.open()
    try:
        yield upstreams
    finally:
        await upstreams.close()


@asynccontextmanager
async def response_of(upstreams: UpstreamClient, address: str) -> AsyncIterator[HostedResponse]:
    answer = await upstreams.post(address, "/chat", b"{}", "Bearer x")
    try:
        yield answer
    finally:
        answer.release()


async def read(upstreams: UpstreamClient, address: str) -> bytes:
    async with response_of(upstreams, address) as answer:
        assert answer.header(b"content-type") == b"text/plain"
        return await answer.read()


async def silent(*_: object) -> None:
    await asyncio.sleep(60)


async def falls_silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"content-length: 9\r\n\r\nhello")
    await asyncio.sleep(60)


async def test_an_answer_is_read_and_its_connection_used_again() -> None:
    async with running(writes(HEAD + b"content-length: 5\r\n\r\nhe", b"llo")) as (server, upstreams):
        assert [await read(upstreams, server.address) for _ in range(3)] == [b"hello"] * 3
        assert server.connections == 1
        assert b"Bearer x" in server.requests[0]
        assert server.requests[0].startswith(b"POST /v1/chat HTTP/1.1\r\n")


@pytest.mark.long
@pytest.mark.parametrize("limit", ["first_byte_s", "total_s"])
async def test_the_first_byte_has_a_time(limit: str) -> None:
    async with running(silent, **{limit: 0.3, "connect_s": 0.1}) as (server, upstreams):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(upstreams, server.address), 5)
        assert 0.2 < time.monotonic() - began < 2
        assert len(server.requests) == 1


@pytest.mark.long
@pytest.mark.parametrize("limit", ["idle_s", "total_s"])
async def test_silence_within_an_answer_has_a_time_of_its_own(limit: str) -> None:
    async with (
        running(falls_silent, **{limit: 0.3}) as (server, upstreams),
        response_of(upstreams, server.address) as answer,
    ):
        began = time.monotonic()
        assert await answer.read_piece() == b"hello"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(answer.read_piece(), 5)
        assert 0.2 < time.monotonic() - began < 2


async def test_a_long_wait_for_the_first_byte_does_not_lengthen_the_silence_after_it() -> None:
    async with running(falls_silent, first_byte_s=30, idle_s=0.2) as (server, upstreams):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(read(upstreams, server.address), 5)
        assert time.monotonic() - began < 2


async def test_a_request_that_was_sent_is_not_sent_again() -> None:
    async with running(writes(close=True)) as (server, upstreams):
        with pytest.raises(ConnectionBroken):
            await read(upstreams, server.address)
        assert len(server.requests) == 1


async def test_where_nobody_listens_nothing_was_sent() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    async with opened() as upstreams:
        with pytest.raises(Unreachable):
            await read(upstreams, address)


@pytest.mark.long
async def test_a_connection_that_takes_too_long_is_none() -> None:
    with full_queue() as address:
        async with opened(connect_s=0.2) as upstreams:
            began = time.monotonic()
            with pytest.raises(Unreachable):
                await read(upstreams, address)
            assert time.monotonic() - began < 3  # twice: nothing was sent


async def test_a_client_that_leaves_early_closes_the_connection() -> None:
    gone = asyncio.Event()
    async with running(drips_until(gone)) as (server, upstreams):
        async with response_of(upstreams, server.address) as answer:
            assert await answer.read_piece()
        await asyncio.wait_for(gone.wait(), 2)
