"""What counts as work of a process tree: real processes, some of which end before they are measured."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from serve.fleet.engine_failures import HUNG, NOT_READY, FailureStreak, advice
from serve.processes.activity import Activity, measure_activity
from serve.processes.children import Command, Process, spawn

# As a compiler: each process computes for a moment and ends, and their parent only waits.
COMPILES = """
import os
while True:
    pid = os.fork()
    if not pid:
        for _ in range(200_000): pass
        os._exit(0)
    os.waitpid(pid, 0)
"""
SHARE = 0.1


@contextmanager
def running(folder: Path, code: str) -> Iterator[Process]:
    process = spawn(Command("program", (sys.executable, "-S", "-c", code), dict(os.environ)), folder)
    try:
        yield process
    finally:
        process.kill()


@pytest.mark.long
def test_a_tree_whose_processes_end_works_and_one_that_waits_does_not(tmp_path: Path) -> None:
    with running(tmp_path / "a", COMPILES) as compiles, running(tmp_path / "b", "input()") as waits:
        deadline = time.monotonic() + 20
        while not measure_activity(compiles, spins=True).cpu_seconds:  # it has started, and a child has ended
            assert time.monotonic() < deadline
            time.sleep(0.02)
        before = measure_activity(compiles), measure_activity(compiles, spins=True), measure_activity(waits)
        time.sleep(1)
        assert measure_activity(compiles).worked_since(before[0], SHARE)
        # On a GPU, where waiting threads spin, the ended processes show the work.
        assert measure_activity(compiles, spins=True).worked_since(before[1], SHARE)
        assert not measure_activity(waits).worked_since(before[2], SHARE)


@pytest.mark.long
def test_a_thread_that_gets_no_core_works_all_the_same(tmp_path: Path) -> None:
    with running(tmp_path, "while True: pass") as process:
        deadline = time.monotonic() + 20
        while not (before := measure_activity(process)).wanted_seconds:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.5)
        now = measure_activity(process)
    wanted = max(now.wanted_seconds[thread] - seconds for thread, seconds in before.wanted_seconds.items())
    assert wanted == pytest.approx(now.at - before.at, rel=0.5), "it ran or waited for a core all the time"


def test_a_log_that_grows_is_progress() -> None:
    assert Activity(2.0, output_bytes=11).moved_data_since(Activity(1.0, output_bytes=10))
    assert not Activity(2.0, output_bytes=10).moved_data_since(Activity(1.0, output_bytes=10))


def streak(*failures: tuple[str, float | None]) -> FailureStreak:
    failed = FailureStreak()
    for reason, ready_s in failures:
        failed = failed.add(reason, ready_s)
    return failed


def test_three_failures_alike_are_too_many_and_a_stable_period_begins_a_new_streak() -> None:
    crash, hang = "was ended by SIGILL (Illegal instruction)", HUNG
    assert streak((f"{crash}: one line", 0.5), (f"{crash}: another", None), (crash, 60)).too_many
    assert not streak((crash, 0.5), (hang, 50), (crash, 0.5)).too_many
    assert streak((crash, 0.5), (hang, 50), (hang, 50), (hang, 50)).too_many
    assert not streak((crash, 0.5), (crash, 0.5), (crash, 200)).too_many
    assert streak((crash, 0.5), (crash, 0.5), (crash, 200)).count == 1


def test_an_external_kill_allows_more_starts() -> None:
    killed = ("was ended by SIGKILL (Killed): last log line", 5.0)
    assert not streak(*[killed] * 4).too_many
    assert streak(*[killed] * 5).too_many


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("was ended by SIGKILL (Killed)", "max_model_len"),
        ("lost a process, ended by SIGSEGV (Segmentation fault)", "dtype"),
        (f"{NOT_READY} 300 s and made no more progress", "engine_start_timeout_s"),
        ("ended with status 1", "log"),
    ],
)
def test_each_failure_comes_with_something_to_try(kind: str, what: str) -> None:
    assert what in advice(kind)
