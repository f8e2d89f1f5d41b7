"""Supervision while the database or the log folder is unavailable."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.database import Database, open_database, upgrade
from models.settings.settings import Settings, load_settings
from serve.fleet import supervisor
from serve.launcher.services import Service, Services
from serve.processes import guardian
from serve.processes.children import Command
from tests.serve.postgres import Postgres
from tests.serve.test_engine_lifecycle import start  # noqa: F401 -- a fixture


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture
def settings(home: Path, postgres: Postgres) -> Settings:
    """With a PostgreSQL that can be stopped."""
    return load_settings(home=home, database_url=postgres.new_database())


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    upgrade(settings)
    database = open_database(settings)
    yield database
    database.dispose()


@pytest.mark.long
async def test_an_engine_is_started_again_while_the_database_is_away(
    start,  # noqa: F811 -- the fixture
    postgres: Postgres,
) -> None:
    async with start() as fleet:
        fleet.add("one")
        await fleet.ready("one")
        (keeper,) = fleet.supervisor.guardians
        await asyncio.to_thread(postgres.stop)
        try:
            os.kill(guardian.descendants(keeper)[0], signal.SIGKILL)
            await fleet.until(lambda _: fleet.supervisor.guardians - {keeper})
        finally:
            await asyncio.to_thread(postgres.start)
        (fresh,) = fleet.supervisor.guardians
        await fleet.until(lambda states: states["one"].state == "ready" and states["one"].pid == fresh)
        assert await fleet.until(lambda _: fleet.gateway.app.watcher.current.routes["one"].address is not None) < 5
        assert await fleet.say("one") == "a"
        # A stop while it is away works too.
        await asyncio.to_thread(postgres.stop)
        try:
            await fleet.supervisor.stop()
        finally:
            await asyncio.to_thread(postgres.start)
        assert guardian.descendants(fresh) == []


@pytest.mark.long
async def test_an_engine_is_started_again_while_the_database_hangs(
    monkeypatch: pytest.MonkeyPatch,
    start,  # noqa: F811 -- the fixture
    postgres: Postgres,
) -> None:
    monkeypatch.setattr(supervisor, "_DATABASE_TIMEOUT_S", 0.5)
    async with start() as fleet:
        fleet.add("one")
        await fleet.ready("one")
        (keeper,) = fleet.supervisor.guardians
        postgres.freeze()
        try:
            os.kill(guardian.descendants(keeper)[0], signal.SIGKILL)
            await fleet.until(lambda _: fleet.supervisor.guardians - {keeper})
        finally:
            postgres.go_on()
        (fresh,) = fleet.supervisor.guardians
        await fleet.until(lambda states: states["one"].state == "ready" and states["one"].pid == fresh)


@pytest.mark.long
async def test_a_service_whose_log_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    lines: list[str] = []
    command = Command("sleeps", (sys.executable, "-S", "-c", "import time; time.sleep(60)"), dict(os.environ))
    watched = Services([Service(command, None)], logs, lines.append)
    running = asyncio.create_task(watched.run())
    try:
        await until(lambda: lines[-1:] == ["sleeps is ready"])
        (keeper,) = watched.guardians
        await until(lambda: guardian.descendants(keeper))
        logs.rename(tmp_path / "moved")
        logs.write_text("no folder")
        os.kill(guardian.descendants(keeper)[0], signal.SIGKILL)
        await until(lambda: any("cannot be written" in line for line in lines))
        assert not running.done()
        logs.unlink()
        await until(lambda: len(lines) > 3 and "ready" in lines[-1])
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await asyncio.to_thread(watched.stop)


async def until(condition, timeout_s: float = 15) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event
            await asyncio.sleep(0.02)
