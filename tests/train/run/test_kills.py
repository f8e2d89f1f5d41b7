"""Twenty kills in one run, at random moments: the end is that of a run that nobody touched, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.training
def test_twenty_kills_leave_no_trace() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "bench.kills", "--json"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert told.returncode == 0, told.stdout + told.stderr[-3000:]
    outcome = json.loads(told.stdout)
    assert outcome["kills"] == 20
    assert outcome["moments"].keys() == {"loading", "learning", "writing"}
    assert outcome["torn"] > 0  # some kills did leave half a checkpoint
    assert (outcome["same_adapter"], outcome["same_losses"], outcome["same_metrics"]) == (True, True, True)
