"""More requests than the limit: admitted ones continue, the rest are refused at once, and memory stays flat."""

import asyncio
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from models.database import Database
from models.settings.settings import load_settings
from tests.serve.gateways import serving
from tests.serve.paced_upstream import PacedUpstream, Seen
from tests.serve.test_exchange import process

pytestmark = pytest.mark.long

HELLO: list = [{"role": "user", "content": "hello"}]


async def ask(
    session: aiohttp.ClientSession, port: int, model: str, text: str = "hello"
) -> tuple[int, float, dict[str, str]]:
    """Status, seconds and headers."""
    began = time.perf_counter()
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as answer:
        await answer.read()
        return answer.status, time.perf_counter() - began, {k.lower(): v for k, v in answer.headers.items()}


@pytest.mark.parametrize("kind", ["engine", "hosted"])
async def test_ten_times_too_many_hear_so_at_once(database: Database, home: Path, tmp_path: Path, kind: str) -> None:
    settings = load_settings(home=home, running_per_model=8, queue_size=8)
    with PacedUpstream(chunks=10, pace_s=0.15) as upstream, serving(settings, database) as gateway:
        if kind == "engine":
            gateway.engine("busy-one", tmp_path / "weights", upstream.address)
        else:
            gateway.hosted("busy-one", base_url=f"{upstream.address}/v1", model="whole")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            answers = await asyncio.gather(*(ask(session, gateway.port, "busy-one") for _ in range(160)))
            served = [answer for answer in answers if answer[0] == 200]
            refused = [answer for answer in answers if answer[0] == 429]
            assert (len(served), len(refused)) == (16, 144)
            assert len(upstream.seen.requests) == 16
            # None of them waited: the first place becomes free when the first answer ends.
            assert max(seconds for _, seconds, _ in refused) < min(seconds for _, seconds, _ in served)
            assert all(headers["retry-after"] == "1" for _, _, headers in refused)
            # Eight at once, 1.5 s each: the second eight had to wait for the first.
            assert max(seconds for _, seconds, _ in served) > 2.7
            assert (await ask(session, gateway.port, "busy-one"))[0] == 200


async def test_a_client_that_leaves_the_queue_makes_room_in_it(database: Database, home: Path, tmp_path: Path) -> None:
    settings = load_settings(home=home, running_per_model=1, queue_size=1)
    with PacedUpstream(chunks=10, pace_s=0.2) as upstream, serving(settings, database) as gateway:
        gateway.engine("m", tmp_path / "weights", upstream.address)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            running = asyncio.create_task(ask(session, gateway.port, "m"))
            await asyncio.sleep(0.1)
            waiting = asyncio.create_task(ask(session, gateway.port, "m"))
            await asyncio.sleep(0.1)
            assert (await ask(session, gateway.port, "m"))[0] == 429
            waiting.cancel()
            deadline = time.monotonic() + 1
            while 'parley_requests_waiting{model="m"} 0' not in gateway.app.metrics.text().decode():
                assert time.monotonic() < deadline, "it still waits a second after its client has gone"
                await asyncio.sleep(0.02)
            third = asyncio.create_task(ask(session, gateway.port, "m"))
            assert (await running)[0] == 200
            assert (await third)[0] == 200
        assert len(upstream.seen.requests) == 2


async def test_the_wait_for_a_place_has_an_end(database: Database, home: Path, tmp_path: Path) -> None:
    settings = load_settings(home=home, running_per_model=1, queue_wait_s=0.2)
    with PacedUpstream(chunks=10, pace_s=0.1) as upstream, serving(settings, database) as gateway:
        gateway.engine("m", tmp_path / "weights", upstream.address)
        async with aiohttp.ClientSession() as session:
            first, second = await asyncio.gather(*(ask(session, gateway.port, "m") for _ in range(2)))
        assert sorted([first[0], second[0]]) == [200, 429]
        assert min(first[1], second[1]) < 0.7


async def test_all_bodies_together_are_bounded_and_memory_stays_flat(database: Database, home: Path) -> None:
    text = "x" * 900_000
    with (
        PacedUpstream(chunks=10, pace_s=0.05) as upstream,
        process(home, database, upstream, max_body_mib=1, max_bodies_mib=8) as (port, running),
    ):
        memory = psutil.Process(running.pid).memory_info
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            before = 0
            for _ in range(4):
                answers = await asyncio.gather(*(ask(session, port, "m", text) for _ in range(80)))
                statuses = [status for status, _, _ in answers]
                assert set(statuses) == {200, 429}
                assert statuses.count(200) == len(upstream.seen.requests)
                assert 1 <= statuses.count(200) <= 9
                # All of them are released.
                assert (await ask(session, port, "m", text))[0] == 200
                upstream.seen = Seen()
                before = before or memory().rss
            assert memory().rss - before < 32 * 2**20
