"""The gateway's bench runs, and its streams arrive whole. Its figures mean something on an idle machine only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.gateway import processes
from bench.gateway.__main__ import main

ROOT = Path(__file__).parents[2]
EACH = {
    "cpu_us_per_request",
    "cpu_us_per_chunk",
    "added_p50_ms",
    "added_p99_ms",
    "paced_ratio_128",
    "paced_ratio_most",
    "engine_ratio_64",
}


@pytest.mark.engine  # needs cores of its own, so it runs where nothing else does
def test_a_short_run_gives_every_figure() -> None:
    command = [sys.executable, "-m", "bench.gateway", "--quick", "--without-peers", "--without-engine"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, cwd=ROOT)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() >= EACH | {"paced_most", "peers", "load"}
    assert figures["streams_equal"]
    assert figures["frames_missing"] == 0
    assert 0 < figures["cpu_us_per_chunk"] < figures["cpu_us_per_request"] < 5000
    assert 0 < figures["paced_ratio_128"] < 1.2
    # Ten run at once and ten wait; ten times as many were sent, twice.
    assert figures["overload_refused"] > figures["overload_served"] > 0
    assert figures["overload_429_ms"] > 0
    # The table shows the same figures.
    assert done.stdout.count("cpu_us_per_request") == 2


@pytest.mark.long
def test_two_processes_share_one_port(capsys: pytest.CaptureFixture[str]) -> None:
    assert processes.main(["--rounds", "1", "--requests", "128", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    single, double = figures["memory_mib"]
    assert 1.5 * single < double < 3.5 * single
    assert 0 < figures["smaller_share"] <= 0.5
    assert figures["requests_per_cpu_s"][0] > 0


def test_an_invalid_count_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--rounds", "0"])
    assert ended.value.code == 2
    assert "1 or more" in capsys.readouterr().err
