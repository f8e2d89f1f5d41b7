"""An outside judge's verdicts from a file: stored pairs are recognised, flips counted, and people compared."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evals.judges.calibration import CalibrationRequest
from evals.judges.judgment_import import import_judgments
from evals.judges.rubric import IMPORTED_RUBRIC, find_rubric
from evals.served_runs import calibrate_stored
from evals.votes.imports.options import ImportOptions
from evals.votes.vote_import import import_votes
from models.database import Database
from models.errors import Invalid, NotFound
from tests.evals.campaigns.campaigns import draft


def rows(path: Path, verdicts: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in verdicts))
    return path


def verdict(prompt: int, left: str, right: str, winner: str) -> dict[str, str]:
    return {
        "prompt": f"Question {prompt}?",
        "model_a": left,
        "model_b": right,
        "winner": winner,
        "answer_a": f"{left} answers {prompt}",
        "answer_b": f"{right} answers {prompt}",
    }


@pytest.fixture
def voted(database: Database, tmp_path: Path) -> Database:
    """Two people voted on 40 pairs; they prefer "new" on three of four."""
    votes = [
        verdict(p, "new", "old", "new" if p % 4 else "old") | {"voter": voter}
        for p in range(40)
        for voter in ("anna", "bert")
    ]
    import_votes(database, rows(tmp_path / "votes.jsonl", votes))
    return database


def test_an_imported_judge_is_compared_with_people(voted: Database, tmp_path: Path) -> None:
    judged = []
    for p in range(40):
        people = "new" if p % 4 else "old"
        judged += [verdict(p, "new", "old", people), verdict(p, "old", "new", people if p % 10 else "old")]
    judged.append(verdict(99, "new", "old", "new"))  # nobody voted on it
    imported = import_judgments(voted, rows(tmp_path / "judged.jsonl", judged), "outside")
    assert (imported.new, imported.known, imported.unknown, imported.pairs, imported.one_order) == (80, 0, 1, 40, 0)
    assert (imported.flips, imported.flip_rate) == (2, 0.05)  # of 0, 10, 20 and 30 people prefer "new" on 10 and 30
    calibration = calibrate_stored(voted, CalibrationRequest("outside", find_rubric("imported")))
    assert (calibration.voted, calibration.judged) == (40, 40)
    assert calibration.groups[0].pairs == 40
    again = import_judgments(voted, tmp_path / "judged.jsonl", "outside")
    assert (again.new, again.known, again.flips) == (0, 80, 2)


def test_the_order_shown_is_kept_and_ties_are_ties(voted: Database, tmp_path: Path) -> None:
    judged = [verdict(1, "old", "new", "tie"), verdict(1, "new", "old", "model_b"), verdict(2, "old", "new", "model_b")]
    imported = import_judgments(voted, rows(tmp_path / "judged.jsonl", judged), "outside")
    assert (imported.pairs, imported.flips, imported.one_order) == (1, 1, 1)


def test_rows_about_other_answers_are_refused(voted: Database, tmp_path: Path) -> None:
    other = verdict(1, "new", "old", "new") | {"answer_a": "another answer"}
    with pytest.raises(Invalid, match="none of its rows is about a stored pair"):
        import_judgments(voted, rows(tmp_path / "judged.jsonl", [other]), "outside")
    without = {name: value for name, value in other.items() if not name.startswith("answer")}
    assert import_judgments(voted, rows(tmp_path / "judged.jsonl", [without]), "outside").new == 1
    assert IMPORTED_RUBRIC.name == "imported"


@pytest.mark.long
def test_a_judge_is_compared_with_one_campaigns_votes(voted: Database, tmp_path: Path) -> None:
    """Campaigns ask different questions, so their votes are never pooled."""
    draft(voted, tmp_path)
    shorter = [verdict(p, "new", "old", "old") | {"voter": "cem"} for p in range(10)]
    import_votes(voted, rows(tmp_path / "other.jsonl", shorter), ImportOptions(campaign="acceptance"))
    judged = [verdict(p, *models, "new") for p in range(40) for models in (("new", "old"), ("old", "new"))]
    import_judgments(voted, rows(tmp_path / "judged.jsonl", judged), "outside")
    request = CalibrationRequest("outside", find_rubric("imported"))
    for campaign, pairs, agrees in (("open", 40, 0.75), ("acceptance", 10, 0.0)):
        calibration = calibrate_stored(voted, replace(request, campaign=campaign))
        assert (calibration.campaign, calibration.voted, calibration.groups[0].pairs) == (campaign, pairs, pairs)
        assert calibration.groups[0].with_ties is not None
        assert calibration.groups[0].with_ties.value == pytest.approx(agrees)
    with pytest.raises(NotFound, match="no campaign 'summer'"):
        calibrate_stored(voted, replace(request, campaign="summer"))
