"""Logs are rotated and truncated while a process writes to them."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from serve.processes import logs

WRITES = "import sys, time\nfor n in range(200): print(f'line {n:04d}', flush=True); time.sleep(0.005)"


@pytest.mark.long
def test_a_log_is_rotated_under_a_program_that_writes(tmp_path: Path) -> None:
    log = tmp_path / "engine-x.log"
    with log.open("ab") as stream:
        writer = subprocess.Popen([sys.executable, "-c", WRITES], stdout=stream)
    cut = 0
    while writer.poll() is None:
        cut += logs.rotate(log, limit=400, kept=50)
        time.sleep(0.01)
    assert cut >= 2
    assert log.stat().st_size < 2000
    assert b"\0" not in log.read_bytes()
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert len({line for line in kept.splitlines() if line.startswith("line ")}) > 180


def test_only_so_many_old_ones_stay(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(6):
        log.write_text(f"{number}" * 10)
        assert logs.rotate(log, limit=5, kept=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert [(tmp_path / f"a.log.{n}").read_text()[0] for n in (1, 2)] == ["5", "4"]
    assert not logs.rotate(tmp_path / "nothing.log")


def test_last_lines_leave_blanks_out(tmp_path: Path) -> None:
    log = logs.engine_log(tmp_path, "team/model")
    log.write_text("one\n\ntwo  \n\nthree\n")
    assert log.name == "engine-team--model.log"
    assert logs.last_lines(log, 2) == ["two", "three"]
