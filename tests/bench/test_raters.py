"""A short run of the raters' bench: every vote is stored, and the waits are measured."""

import json

import pytest

from bench.raters import main


@pytest.mark.long
def test_raters_vote_and_the_next_pair_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--raters", "3", "--owners", "2", "--seconds", "4", "--reading", "0.3", "--no-browser", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["votes"] >= 3
    assert result["faults"] == 0
    assert result["pages"] >= 5
    assert result["pages_p95_ms"] > 0
    assert 0 < result["next_pair_p50_ms"] <= result["next_pair_p95_ms"]
    assert result["page_cpu_ms"] > 0
    assert result["browser_p95_ms"] is None
