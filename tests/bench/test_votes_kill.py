"""The benchmark that kills the page and voting processes: five kills, and it continues where it was stopped."""

import json
from pathlib import Path

import pytest

from bench.votes_kill.__main__ import main


@pytest.mark.long
def test_no_acknowledged_vote_is_lost_or_doubled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--kills", "2", "--folder", str(tmp_path), "--json"])
    capsys.readouterr()
    main(["--kills", "5", "--folder", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["kills"], found["lost"], found["doubled"]) == (5, 0, 0)
    assert found["fewest_acknowledged"] >= 10
    assert found["acknowledged"] >= 50
    assert found["sqlite"] == 3
    assert found["page"] == 3
    assert len((tmp_path / "kills.jsonl").read_text().splitlines()) == 5
