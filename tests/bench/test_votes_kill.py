"""The benchmark that kills the page and voting processes: three kills, and it continues where it was stopped."""

import json
from pathlib import Path

import pytest

from bench.votes_kill.__main__ import main


@pytest.mark.long
def test_no_acknowledged_vote_is_lost_or_doubled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--kills", "1", "--folder", str(tmp_path), "--json"])
    capsys.readouterr()
    main(["--kills", "3", "--folder", str(tmp_path), "--json"])
    result = json.loads(capsys.readouterr().out)
    assert (result["kills"], result["lost"], result["doubled"]) == (3, 0, 0)
    assert result["fewest_acknowledged"] >= 10
    assert result["acknowledged"] >= 30
    assert result["sqlite"] == 2
    assert result["page"] == 2
    assert len((tmp_path / "kills.jsonl").read_text().splitlines()) == 3
