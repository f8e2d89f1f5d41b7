"""Kills in one run, at random moments: its result is that of an undisturbed run, byte for byte."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.training
def test_kills_leave_no_trace() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "bench.kills", "--kills", "10", "--epochs", "5", "--json"],  # the benchmark makes 20
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[3],
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    outcome = json.loads(finished.stdout)
    assert outcome["kills"] == 10
    assert outcome["moments"].keys() == {"loading", "learning", "writing"}
    assert outcome["torn"] > 0  # some kills left half a checkpoint
    assert (outcome["same_adapter"], outcome["same_losses"], outcome["same_metrics"]) == (True, True, True)
