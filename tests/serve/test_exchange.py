"""A client disconnects: its upstream request ends within a second, at any point. And a graceful server stop."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from models.database import Database
from models.registry.registry import Registry
from models.settings.environment import child_environment
from models.settings.settings import load_settings
from models.spec import ModelSpec, Upstream
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_http_protocol import chat, connected, read

pytestmark = pytest.mark.long

HELLO: list = [{"role": "user", "content": "hello"}]


async def until(condition: object, within_s: float = 1.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():  # type: ignore[operator] -- a lambda
        assert time.monotonic() < deadline, "a second has passed"
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("when", ["at once", "later", "half closed"])
@pytest.mark.parametrize("kind", ["engine", "hosted"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_disconnect_ends_the_upstreams_work(
    gateway: Serving, tmp_path: Path, kind: str, stream: bool, when: str
) -> None:
    with PacedUpstream(chunks=100, pace_s=0.05) as upstream:
        if kind == "engine":
            gateway.engine("m", tmp_path / "weights", upstream.address)
        else:
            gateway.hosted("m", base_url=f"{upstream.address}/v1", model="whole")
        with connected(gateway) as raw:
            raw.sendall(chat("m", stream=stream))
            await until(lambda: upstream.seen.requests, 5)
            await asyncio.sleep(0.01 if when == "at once" else 0.5)
            if when == "half closed":
                raw.shutdown(socket.SHUT_WR)
                await until(lambda: upstream.seen.left)
        await until(lambda: upstream.seen.left)
        await until(lambda: 'code="499"' in gateway.app.metrics.text().decode())


async def test_a_disconnect_while_the_model_starts_ends_the_wait(gateway: Serving, tmp_path: Path) -> None:
    gateway.engine("slow", tmp_path / "slow", None)
    with connected(gateway) as raw:
        raw.sendall(chat("slow"))
        await until(lambda: 'parley_requests_waiting{model="slow"} 1.0' in gateway.app.metrics.text().decode(), 5)
    await until(lambda: 'parley_requests_waiting{model="slow"} 0.0' in gateway.app.metrics.text().decode())


@contextmanager
def process(
    home: Path, database: Database, upstream: PacedUpstream, **settings: object
) -> Iterator[tuple[int, subprocess.Popen]]:
    """`parley gateway` with the upstream as a hosted model; and its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Upstream(base_url=f"{upstream.address}/v1", model="whole")
    Registry(database).register(ModelSpec(id="m", kind="hosted", upstream=made))
    environment = child_environment(load_settings(home=home, port=port, **settings))
    running = subprocess.Popen(
        [sys.executable, "-m", "parley", "gateway"], env=environment, cwd=Path(__file__).parents[2]
    )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield port, running
    finally:
        running.kill()
        running.wait()


async def test_a_stop_lets_running_streams_end_and_takes_nothing_new(database: Database, home: Path) -> None:
    with PacedUpstream(chunks=20, pace_s=0.1) as upstream, process(home, database, upstream) as (port, running):
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{port}"
            body = {"model": "m", "messages": HELLO, "stream": True}
            answer = await session.post(f"{url}/v1/chat/completions", json=body)
            assert await answer.content.readany()
            running.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{url}/ready")
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        began = time.monotonic()
        assert await asyncio.to_thread(running.wait, 10) in (0, 128 + signal.SIGTERM)
        assert time.monotonic() - began < 2


async def test_a_stop_cuts_what_takes_too_long_and_says_so(database: Database, home: Path) -> None:
    with (
        PacedUpstream(chunks=100, pace_s=0.1) as upstream,
        process(home, database, upstream, stop_grace_s=1.0) as (port, running),
        connected(port) as raw,
    ):
        raw.sendall(chat("m", stream=True))
        assert raw.recv(1000)
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        text = b""
        while piece := await asyncio.to_thread(raw.recv, 65536):
            text += piece
        last = text.rpartition(b"data: ")[2].partition(b"\n\n")[0]
        assert "stopping" in json.loads(last)["error"]["message"]
        assert text.endswith(b"\r\n0\r\n\r\n")
        await asyncio.to_thread(running.wait, 10)
        assert 0.9 < time.monotonic() - began < 4
        assert upstream.seen.somebody_left.wait(1)


async def test_an_idle_connection_does_not_hold_up_a_stop(database: Database, home: Path) -> None:
    with (
        PacedUpstream() as upstream,
        process(home, database, upstream) as (port, running),
        connected(port) as raw,
    ):
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read(raw)[0][0] == 200
        began = time.monotonic()
        running.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.wait, 10)
        assert time.monotonic() - began < 3
