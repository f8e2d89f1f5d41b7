"""The access log: a line for each request, rotated by size, and a failing disk loses lines and nothing else."""

import json
import logging
import time
from pathlib import Path
from typing import Any, cast

import pytest

from serve.accounting import request_logs
from serve.accounting.request_logs import AccessLog, Line


def line(number: int = 0, **changed: Any) -> Line:
    fields: dict[str, Any] = {
        "time": 1_795_000_000.125, "id": b"req_%d" % number, "client": "127.0.0.1", "key": "shop", "method": "POST",
        "route": "/v1/chat/completions", "model": "m", "status": 200, "seconds": 1.23456, "ttft": None,
        "prompt_tokens": 10, "completion_tokens": 20, "stream": False, "bytes": 345, "fault": "",
    }  # fmt: skip
    return cast(Line, tuple((fields | changed).values()))


def test_each_request_is_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "access.log"
    log = AccessLog(path)
    log.start()
    log.line(line(1))
    log.line(line(2, ttft=0.25, stream=True, fault="broken"))
    log.stop()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {
        "time": "2026-11-18T11:06:40.125Z", "id": "req_1", "client": "127.0.0.1", "key": "shop", "method": "POST",
        "route": "/v1/chat/completions", "model": "m", "status": 200, "seconds": 1.2346, "prompt_tokens": 10,
        "completion_tokens": 20, "stream": False, "bytes": 345,
    }  # fmt: skip
    assert (second["ttft"], second["stream"], second["fault"]) == (0.25, True, "broken")


@pytest.mark.long
def test_it_is_written_while_it_runs_and_rotated_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_logs, "_FILE_BYTES", 2_000)
    monkeypatch.setattr(AccessLog, "interval_s", 0.02)
    path = tmp_path / "access.log"
    log = AccessLog(path)
    log.start()
    for number in range(60):
        log.line(line(number))
        time.sleep(0.01)
    log.stop()
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["access.log", *(f"access.log.{number}" for number in range(1, 5))]
    assert all(file.stat().st_size <= 2_000 for file in files)
    lines = [json.loads(text)["id"] for file in files for text in file.read_text().splitlines()]
    assert "req_59" in lines
    assert len(set(lines)) == len(lines)


def test_a_disk_that_is_full_costs_lines_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(AccessLog, "interval_s", 0.02)
    path = tmp_path / "access.log"
    path.symlink_to("/dev/full")  # a real ENOSPC for every write
    log = AccessLog(path)
    log.start()
    with caplog.at_level(logging.WARNING, "parley.gateway"):
        log.line(line(1))
        deadline = time.monotonic() + 5
        while not caplog.records:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        log.line(line(1))
        time.sleep(0.1)
    assert "1 lines of the access log are lost" in caplog.text
    assert "No space left" in caplog.text
    assert len(caplog.records) == 1, "a disk that stays full is not told every time"
    path.unlink()
    path.write_text('{"half": ')
    log.line(line(2))
    log.stop()
    half, whole = path.read_text().splitlines()
    assert half == '{"half": '
    assert json.loads(whole)["id"] == "req_2"
