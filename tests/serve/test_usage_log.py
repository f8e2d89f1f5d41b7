"""The usage log: no delay for requests, no loss at a stop or while the database is away."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from models.database import Database
from models.errors import ParleyError, Unavailable
from models.settings.settings import Settings
from models.usage import Sums, add_usage, read_usage
from serve.accounting import request_logs
from serve.accounting.request_logs import UsageLog


@pytest.mark.long
def test_recorded_usage_is_in_the_table_within_a_second_or_so(any_database: Database) -> None:
    log = UsageLog(any_database)
    log.start()
    log.record("k1", "m", 10, 20, True, 0.5)
    log.record("k1", "m", 1, 2, False, 0.25)
    log.record(None, "m", 5, 5, True)
    deadline = time.monotonic() + 3
    while not (rows := read_usage(any_database)):
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.05)
    assert {(row.key_id, row.model): row.sums for row in rows} == {
        ("k1", "m"): Sums(2, 1, 11, 22, 0.75),
        ("", "m"): Sums(1, 0, 5, 5),
    }
    log.stop()


def test_a_stop_loses_nothing_of_what_several_threads_note(database: Database) -> None:
    log = UsageLog(database)
    log.start()
    threads = [
        threading.Thread(target=lambda: [log.record("k", "m", 1, 1, True) for _ in range(5_000)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.stop()
    assert [row.sums for row in read_usage(database)] == [Sums(10_000, 0, 10_000, 10_000)]


def test_what_cannot_be_written_is_kept_and_logged_once(
    database: Database,
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = UsageLog(database)
    attempts: list[None] = []
    flush = log.flush
    monkeypatch.setattr(UsageLog, "interval_s", 0.05)
    monkeypatch.setattr(log, "flush", lambda: (attempts.append(None), flush())[1])
    log.record("k", "m", 1, 1, True)
    path = settings.home / "parley.db"
    database.dispose()
    path.rename(tmp_path / "away.db")
    with pytest.raises(ParleyError):
        log.flush()
    with caplog.at_level(logging.WARNING, "parley.gateway"):
        log.start()
        deadline = time.monotonic() + 30
        while len(attempts) < 4:
            assert time.monotonic() < deadline, "it stopped trying"
            time.sleep(0.01)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    database.dispose()
    path.unlink()  # the attempt created an empty file
    (tmp_path / "away.db").rename(path)
    log.record("k", "m", 1, 1, True)
    log.stop()
    assert [row.sums for row in read_usage(database)] == [Sums(2, 0, 2, 2)]


def test_what_is_lost_in_the_end_is_reported(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    log = UsageLog(database)
    log.start()
    database.dispose()
    (settings.home / "parley.db").rename(tmp_path / "away.db")
    for _ in range(3):
        log.record("k", "m", 1, 1, True)
    log.stop()
    assert "the usage of 3 requests is lost" in caplog.text


def test_what_the_database_does_not_take_is_in_a_file_until_the_next_start(
    database: Database, settings: Settings, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = settings.home / "usage" / "here.json"
    log = UsageLog(database, "here", path)
    log.start()
    database.dispose()
    (settings.home / "parley.db").rename(tmp_path / "away.db")
    for number in range(3):
        log.record("k", f"m{number % 2}", 1, 1, True, 0.25)
    log.stop()
    assert "the usage of 3 requests is in a file" in caplog.text
    database.dispose()
    (settings.home / "parley.db").unlink(missing_ok=True)
    (tmp_path / "away.db").rename(settings.home / "parley.db")
    successor = UsageLog(database, "elsewhere", path.with_name("elsewhere.json"))  # its host has another name
    successor.start()
    successor.record("k", "m1", 5, 5, False)
    successor.stop()
    assert {row.model: row.sums for row in read_usage(database)} == {
        "m0": Sums(2, 0, 2, 2, 0.5), "m1": Sums(2, 1, 6, 6, 0.25),
    }  # fmt: skip
    assert not list(path.parent.glob("*.json"))


def test_what_was_stored_although_the_connection_broke_counts_once(
    any_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = UsageLog(any_database, "here", tmp_path / "here.json")

    def break_after(database: Database, *arguments: Any) -> None:
        add_usage(database, *arguments)
        raise Unavailable("the connection broke")

    log.record("k", "m", 1, 1, True)
    with monkeypatch.context() as patch:
        patch.setattr(request_logs, "add_usage", break_after)
        with pytest.raises(Unavailable):
            log.flush()
    log.record("k", "m", 10, 10, True)
    assert log._save()  # a kill here
    successor = UsageLog(any_database, "here", tmp_path / "here.json")
    successor.start()
    successor.stop()
    assert [row.sums for row in read_usage(any_database)] == [Sums(2, 0, 11, 11)]


def test_a_damaged_file_is_set_aside(database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "here.json"
    path.write_text("{")
    log = UsageLog(database, "here", path)
    log.start()
    log.stop()
    assert "cannot be read" in caplog.text
    assert path.with_suffix(".damaged").exists()
