"""The gateway's bench runs, and its streams come through whole. The figures themselves are for a quiet machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.engine
def test_one_round_gives_every_figure() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.gateway", "--rounds", "1", "--json"],
        capture_output=True, text=True, timeout=120, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["streams_equal"]
    assert 0 < figures["cpu_us_per_chunk"] < figures["cpu_us_per_request"] < 5000
    assert {"added_p50_ms", "added_p99_ms", "paced_ratio_128"} <= figures.keys()
