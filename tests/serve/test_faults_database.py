"""The database is locked, gone, full or hangs under load: answers continue, failed votes are errors, none is lost."""

import asyncio
import os
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from sqlalchemy import select

import serve.gateway.app
from evals.campaigns.ballots import cast_vote
from evals.tables import VoteRow
from evals.votes.prompts import add_prompts
from models.database import Database, open_database, upgrade
from models.errors import NoSpace, ParleyError, Unavailable
from models.jobs import jobs, worker
from models.jobs.worker import JobContext, run_worker
from models.settings.settings import load_settings
from tests.evals.battles import next_battle
from tests.evals.scripted import echo
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.postgres import Postgres

HELLO: list = [{"role": "user", "content": "hello"}]
MODELS = ("one", "two")


def say(gateway: Serving) -> str:
    sdk = openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0, timeout=10)
    return sdk.chat.completions.create(model="whole", messages=HELLO).choices[0].message.content or ""


def ready(gateway: Serving) -> int:
    try:
        with urllib.request.urlopen(f"{gateway.root}/ready", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


class Voting:
    """A rater who notes which votes were acknowledged."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.acknowledged: dict[str, str] = {}
        add_prompts(database, [{"prompt": f"Where is order {number}?"} for number in range(40)], "test")
        self.battles = [
            asyncio.run(next_battle(database, f"rater-{number}", echo(*MODELS), MODELS)).id for number in range(24)
        ]

    def vote(self) -> str:
        """Votes in the next battle, and returns its id. Raises the errors of voting."""
        number = 24 - len(self.battles)
        battle = self.battles[0]
        cast_vote(self.database, battle, f"rater-{number}", "left")
        self.acknowledged[battle] = "left"
        del self.battles[0]
        return battle

    def stored(self, database: Database | None = None) -> dict[str, str]:
        """The votes on disk."""
        with (database or self.database).read() as session:
            return {row.battle_id: row.choice for row in session.scalars(select(VoteRow))}


def within(seconds: float, work) -> None:
    """Repeats a call until it succeeds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            work()
            return
        except ParleyError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.long
def test_a_locked_database_holds_up_no_answer(database: Database, home: Path, upstream: PacedUpstream) -> None:
    with serving(load_settings(home=home), database) as gateway:
        gateway.hosted("whole", base_url=f"{upstream.address}/v1")
        locker = sqlite3.connect(home / "parley.db", isolation_level=None)
        locker.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        for _ in range(5):
            assert say(gateway)
        assert time.monotonic() - began < 2
        voting = threading.Thread(target=lambda: add_prompts(database, [{"prompt": "late"}], "test"))
        voting.start()
        time.sleep(0.3)
        assert voting.is_alive()  # it waits, and is not lost
        locker.execute("ROLLBACK")
        locker.close()
        voting.join(10)
        assert not voting.is_alive()


def reports_progress(job: jobs.Job, context: JobContext) -> dict[str, int]:
    """A handler that reports its progress repeatedly. Its parameter: the seconds between two reports."""
    for number in range(8):
        context.report(number / 8)
        time.sleep(job.params["pause_s"])
    return {"words": 8}


@pytest.mark.long
def test_a_job_outlives_a_database_that_is_away(
    postgres: Postgres, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_BEAT_S", 0.2)
    settings = load_settings(home=home, database_url=postgres.new_database())
    upgrade(settings)
    database = open_database(settings)
    job = jobs.enqueue(database, "progress", {"pause_s": 0.1})
    stop = threading.Event()
    handlers = {"progress": f"{__name__}:{reports_progress.__name__}"}
    working = threading.Thread(target=run_worker, args=(settings, database, handlers), kwargs={"stop": stop})
    working.start()
    try:
        within(5, lambda: reached(database, job, lambda row: row.progress > 0))
        postgres.stop()
        time.sleep(1.2)  # it reports meanwhile, and ends
        assert working.is_alive()
        postgres.start()
        within(20, lambda: reached(database, job, lambda row: row.status not in ("queued", "running")))
        ended = jobs.get_job(database, job)
        assert (ended.status, ended.attempts, ended.result) == ("succeeded", 1, {"words": 8})
    finally:
        stop.set()
        working.join(20)
        database.dispose()


def reached(database: Database, job_id: str, condition: Callable[[jobs.Job], bool]) -> None:
    if not condition(jobs.get_job(database, job_id)):
        raise Unavailable("not yet")


@pytest.mark.long
def test_a_database_that_is_deleted_and_put_back_loses_no_vote_that_was_acknowledged(
    database: Database, home: Path, tmp_path: Path, upstream: PacedUpstream
) -> None:
    path, copy = home / "parley.db", tmp_path / "copy.db"
    with serving(load_settings(home=home), database) as gateway:
        gateway.hosted("whole", base_url=f"{upstream.address}/v1")
        voting = Voting(database)
        voting.vote()
        shutil.copy(path, copy)
        path.unlink()
        for _ in range(3):
            with pytest.raises(Unavailable):
                voting.vote()
        assert say(gateway)
        shutil.copy(copy, path)
        within(5, voting.vote)
        assert say(gateway)
        gateway.hosted("whole-too", base_url=f"{upstream.address}/v1", model="whole")  # it sees changes again
    fresh = open_database(load_settings(home=home))
    assert voting.stored(fresh) == voting.acknowledged
    assert len(voting.acknowledged) == 2
    fresh.dispose()


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Path]:
    """A separate file system of this many MiB."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system can be mounted by root alone, and here by nobody")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.long
def test_a_full_disk_stops_votes_and_no_answer(home: Path, upstream: PacedUpstream) -> None:
    with small_disk(home, 8):
        settings = load_settings(home=home)
        upgrade(settings)
        database = open_database(settings)
        with serving(settings, database) as gateway:
            gateway.hosted("whole", base_url=f"{upstream.address}/v1")
            voting = Voting(database)
            voting.vote()
            filler = home / "filler"
            with filler.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
                while True:
                    stream.write(bytes(4096))
            with pytest.raises(NoSpace):
                while True:  # what is free inside the file's pages is used up first
                    voting.vote()
            for _ in range(5):
                assert say(gateway)
            acknowledged = dict(voting.acknowledged)
            assert voting.stored() == acknowledged
            filler.unlink()
            voting.vote()
            assert voting.stored() == voting.acknowledged
        database.dispose()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.mark.long
def test_answers_go_on_while_postgresql_is_down_and_votes_after(
    postgres: Postgres, home: Path, upstream: PacedUpstream
) -> None:
    settings = load_settings(home=home, database_url=postgres.new_database())
    upgrade(settings)
    database = open_database(settings)
    with serving(settings, database) as gateway:
        gateway.hosted("whole", base_url=f"{upstream.address}/v1")
        voting = Voting(database)
        voting.vote()
        assert ready(gateway) == 200
        postgres.stop()
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(Unavailable):
                voting.vote()
            assert say(gateway)
            assert ready(gateway) == 503
        assert time.monotonic() - began < 5
        postgres.start()
        within(5, voting.vote)
        assert voting.stored() == voting.acknowledged
        gateway.hosted("whole-too", base_url=f"{upstream.address}/v1", model="whole")
    database.dispose()


@pytest.mark.long
def test_answers_go_on_while_postgresql_hangs(
    postgres: Postgres, home: Path, upstream: PacedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.gateway.app, "_READY_TIMEOUT_S", 0.3)
    settings = load_settings(home=home, database_url=postgres.new_database())
    upgrade(settings)
    database = open_database(settings)
    with serving(settings, database) as gateway:
        # A name that must be resolved, which happens in the same threads as the database's work.
        gateway.hosted("whole", base_url=f"{upstream.address.replace('127.0.0.1', 'localhost')}/v1")
        postgres.freeze()
        try:
            with ThreadPoolExecutor(16) as pool:  # as a load balancer probes every second
                assert set(pool.map(ready, [gateway] * 16)) == {503}
            began = time.monotonic()
            for _ in range(5):
                assert say(gateway)
            assert time.monotonic() - began < 2
            assert ready(gateway) == 503
        finally:
            postgres.go_on()
        within(5, lambda: answered(gateway))
        gateway.hosted("whole-too", base_url=f"{upstream.address}/v1", model="whole")
    database.dispose()


def answered(gateway: Serving) -> None:
    if ready(gateway) != 200:
        raise Unavailable("not yet")


@pytest.mark.long
def test_a_postgresql_that_never_greets_is_given_up_in_seconds(home: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        address = f"postgresql://parley@127.0.0.1:{port}/parley?connect_timeout=2"
        database = open_database(load_settings(home=home, database_url=address))
        began = time.monotonic()
        with pytest.raises(Unavailable):
            voters(database)
        assert time.monotonic() - began < 5
        database.dispose()


def voters(database: Database) -> int:
    with database.read() as session:
        return len(list(session.scalars(select(VoteRow.voter))))
