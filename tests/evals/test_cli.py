"""The room's commands: tables for people, JSON for programs, one-line errors."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import BattleOptions
from evals.votes.prompts import add_prompts
from models.database import Database
from models.errors import ParleyError
from models.keys import create_key
from parley import build
from tests.evals.battles import next_battle
from tests.evals.scripted import echo


@pytest.fixture
def parley(home: Path, database: Database, monkeypatch: pytest.MonkeyPatch):
    """Runs `parley` in the test's home; returns (exit code, output, error line)."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(build(), list(arguments))
        error = str(result.exception) if isinstance(result.exception, ParleyError) else ""
        return result.exit_code, result.output, error

    return run


@pytest.mark.long
def test_leaderboard_verdict_and_export(parley, database: Database, tmp_path: Path) -> None:
    assert "no votes yet" in parley("leaderboard")[1]
    assert "Nobody has compared" in parley("verdict", "one", "two")[1]
    add_prompts(database, [{"prompt": f"Question {i} [bold]?"} for i in range(5)], "test")
    for i in range(5):
        shown = asyncio.run(next_battle(database, "ann", echo("one", "two"), ["one", "two"], BattleOptions(seed=i)))
        cast_vote(database, shown.id, "ann", "left" if shown.left.startswith("α") else "right")
    code, output, _ = parley("leaderboard")
    assert code == 0
    assert "●" in output
    assert "Not enough evidence" in output
    board = json.loads(parley("leaderboard", "--json")[1])
    assert [row["model"] for row in board["rows"]] == ["one", "two"]
    assert json.loads(parley("verdict", "one", "two", "--json")[1])["votes"] == 5
    path = tmp_path / "pairs.jsonl"
    assert parley("votes", "export", str(path))[0] == 0
    assert len(path.read_text("utf-8").splitlines()) == 5
    assert "[bold]" in parley("prompts", "list")[1]
    assert len(json.loads(parley("prompts", "list", "--json")[1])) == 5


@pytest.mark.long
def test_prompts_are_added_from_a_file(parley, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": "Where?"}\n')
    assert "1 new" in parley("prompts", "add", str(path))[1]
    assert "0 new" in parley("prompts", "add", str(path))[1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["judge", "j", "--models", "one"], "two models"),
        (["judge", "j", "--models", "one,two"], "no model 'j'"),
        (["prompts", "add", "none.jsonl"], "no file"),
        (["votes", "export", "/"], "exists already"),
        (["votes", "export", "/dev/null/pairs.jsonl"], "cannot be written"),
    ],
)
def test_errors_are_one_line(parley, arguments: list[str], expected: str) -> None:
    code, _, line = parley(*arguments)
    assert code != 0
    assert expected in line
    assert "\n" not in line


def test_judging_requires_a_key_if_keys_exist(parley, database: Database) -> None:
    create_key(database, name="me", role="owner")
    assert "PARLEY_PAGE_KEY" in parley("judge", "j", "--models", "one,two")[2]
