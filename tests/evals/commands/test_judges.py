"""`parley judge` and `parley rubrics` against a fake server on a socket."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.campaigns.ballots import cast_vote
from evals.votes.prompts import add_prompts
from models.database import Database
from models.errors import ParleyError
from models.settings.settings import Settings
from parley import build
from tests.evals.battles import next_battle
from tests.evals.scripted import Scripted
from tests.evals.test_jobs import served  # noqa: F401 -- a fixture


@pytest.fixture
def parley(served: Settings, home: Path, monkeypatch: pytest.MonkeyPatch):  # noqa: F811 -- the fixture
    """Runs `parley` against the fake; returns (output, error line)."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("PARLEY_PORT", str(served.port))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[str, str]:
        result = CliRunner().invoke(build(), list(arguments))
        if result.exception and not isinstance(result.exception, ParleyError | SystemExit):
            raise result.exception
        error = str(result.exception) if isinstance(result.exception, ParleyError) else ""
        return " ".join(result.output.split()), error

    return run


@pytest.mark.long
def test_the_short_form_judges_and_reports_trust(parley, database: Database) -> None:
    add_prompts(database, [{"prompt": f"Question {i}?"} for i in range(3)], "test")
    output, _ = parley("judge", "fair", "--models", "one,newest")
    assert "fair prefers two to one in 100% of 3 pairs" in output
    assert "Rubric support, version 1 (cc1fae1c898f)" in output
    assert "same family as one" in output
    assert [kind in output for kind in ("injecting", "padded", "swapped")] == [True] * 3
    report = json.loads(parley("judge", "run", "fair", "--models", "one,two", "--json")[0])
    assert (report["judged"], report["rubric_version"]) == (3, "1")
    assert report["summary"].startswith("fair prefers")


@pytest.mark.long
def test_results_by_another_rubric_are_separate(parley, database: Database, tmp_path: Path) -> None:
    add_prompts(database, [{"prompt": "Question?"}], "test")
    path = tmp_path / "mine.md"
    path.write_text("---\nname: mine\nversion: 7\ncriteria: [relevance, completeness, tone]\n---\nBe strict.\n")
    output, _ = parley("judge", "fair", "--models", "one,two", "--rubric", str(path))
    assert "Rubric mine, version 7" in output
    rows = json.loads(parley("rubrics", "list", "--json")[0])
    mine = next(row for row in rows if row["name"] == "mine")
    assert (mine["version"], mine["shipped"], mine["used"]) == ("7", False, True)
    path.unlink()
    assert "Be strict." in parley("rubrics", "show", mine["hash"])[0]
    assert "mine" in parley("rubrics", "list")[0]


@pytest.mark.long
def test_calibrate_shows_agreement_a_sentence_and_json(parley, database: Database) -> None:
    assert "Nobody has voted" in parley("judge", "calibrate", "fair")[1]
    add_prompts(database, [{"prompt": f"Question {i}?", "category": "orders"} for i in range(4)], "test")
    models = Scripted({name: lambda q, name=name: f"{name} says yes" for name in ("one", "two")})
    for _ in range(4):
        shown = asyncio.run(next_battle(database, "ann", models, ["one", "two"]))
        cast_vote(database, shown.id, "ann", "left" if shown.left.startswith("two") else "right")
    assert "It has judged 0 of the 4 pairs" in parley("judge", "calibrate", "fair", "--stored")[0]
    output, _ = parley("judge", "calibrate", "fair", "--plot")
    assert "everything" in output
    assert "orders" in output
    assert "●" in output
    assert "not known whether" in output
    assert "at least 30 votes on 20 are needed" in output
    report = json.loads(parley("judge", "calibrate", "fair", "--json")[0])
    assert (report["voted"], report["judged"], report["groups"][0]["trusted"]) == (4, 4, "unknown")
    assert report["words"].startswith("It is not known")


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fair", "--models", "one,two", "--rubric", "none"], "no rubric 'none'"),
        (["fair", "--models", "one,two", "--samples", "99"], "1 to 32"),
        (["fair", "--models", "one,two", "--references", "none.jsonl"], "no file"),
        (["calibrate", "nobody"], "no model 'nobody'"),
    ],
)
def test_errors_are_one_line(parley, database: Database, arguments: list[str], expected: str) -> None:
    add_prompts(database, [{"prompt": "Question?"}], "test")
    _, line = parley("judge", *arguments)
    assert expected in line
    assert "\n" not in line


@pytest.mark.long
def test_an_evaluation_with_turns_is_graded_then_judged_with_a_report(parley, tmp_path: Path) -> None:
    task, page = tmp_path / "talk.jsonl", tmp_path / "judged.html"
    rows = [{"turns": [f"first {i}", "second"], "category": "xy"[i % 2], "expected": ["yes", None]} for i in range(3)]
    task.write_text("\n".join(json.dumps(row) for row in rows))
    output, _ = parley("eval", "run", str(task), "--models", "one,newest", "--scorers", "judge:fair@general,words")
    assert "judge:fair@general#" in output
    assert "turn 2" in output
    assert "same family as one" in output
    output, _ = parley("judge", "fair", "--evaluation", "last", "--rubric", "general", "--html", str(page))
    assert "fair prefers two to one in 100% of 6 pairs" in output
    assert "two wins rate (95 %) judged no verdict" in output
    assert f"Report: {page}" in output
    assert "Conversation before" in page.read_text()
    report = json.loads(parley("judge", "fair", "--evaluation", "last", "--models", "two,one", "--json")[0])
    assert [group["name"] for group in report["groups"]] == ["everything", "x", "y", "turn 1", "turn 2"]
    assert (report["win_rate"], report["nulls"]) == (0.0, {})


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--evaluation", "last"], "no evaluations yet"),
        (["--evaluation", "last", "--pointwise"], "judge:JUDGE@RUBRIC"),
        (["--evaluation", "last", "--prompts", "3"], "--prompts is for stored prompts"),
        (["--models", "one,two", "--pointwise", "--html", "x.html"], "leave out --pointwise"),
        ([], "Name two models"),
    ],
)
def test_conflicting_flags_are_refused(parley, arguments: list[str], expected: str) -> None:
    assert expected in parley("judge", "fair", *arguments)[1]
