"""Commands that import and export votes and show leaderboard and verdict: tables, charts, JSON, one-line errors."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.errors import ParleyError
from parley import build


@pytest.fixture
def parley(home: Path, database, monkeypatch: pytest.MonkeyPatch):
    """Runs `parley` in the test's home; returns (exit code, output, error line)."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "160")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(build(), list(arguments))
        error = str(result.exception) if isinstance(result.exception, ParleyError) else ""
        return result.exit_code, result.output, error

    return run


@pytest.fixture
def votes(tmp_path: Path) -> Path:
    """360 votes of 4 people between three models in two categories; "new" wins most, and writes more."""
    rows = ["model_a,model_b,winner,prompt,answer_a,answer_b,voter,category"]
    for i in range(360):
        a, b = [("new", "old"), ("old", "base"), ("base", "new")][i % 3]
        winner = "tie" if i % 7 == 0 else "both_bad" if i % 31 == 0 else a if (a == "new") != (i % 4 == 0) else b
        text = {"new": "**Yes**, " + "it is so. " * (i % 5 + 2), "old": "It is. " * (i % 3 + 1), "base": "Perhaps."}
        category = ["billing", "orders"][i // 3 % 2]
        rows.append(f'{a},{b},{winner},Question {i // 3 % 40}?,"{text[a]}","{text[b]}",v{i // 120},{category}')
    path = tmp_path / "votes.csv"
    path.write_text("\n".join(rows) + "\nnew,old,nobody,Q,a,b,v1,billing\n")
    return path


def test_a_narrow_terminal_cuts_no_name(parley, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, name = tmp_path / "votes.csv", "support-friendly-with-a-long-name"
    rows = [f"{name},base,model_a,Question {i}?,Yes,No,v1,cancel_a_subscription" for i in range(3)]
    path.write_text("\n".join(["model_a,model_b,winner,prompt,answer_a,answer_b,voter,category", *rows]))
    parley("votes", "import", str(path))
    monkeypatch.setenv("COLUMNS", "60")
    for command in (["leaderboard", "--by-category"], ["verdict", name, "base"]):
        output = parley(*command)[1]
        assert "…" not in output, command
        assert max(map(len, output.splitlines())) <= 60


@pytest.mark.long
def test_votes_are_imported_rated_and_exported(parley, votes: Path, tmp_path: Path) -> None:
    code, output, _ = parley("votes", "import", str(votes))
    assert (code, "360 new votes" in output, "line 362" in output) == (1, True, True)  # one row cannot be read
    assert "0 new votes" in parley("votes", "import", str(votes))[1]
    output = parley("leaderboard", "--by-category")[1]
    assert all(word in output for word in ("●", "equal style", "billing", "orders", "are ties", "level with"))
    board = json.loads(parley("leaderboard", "--json")[1])
    assert board["rows"][0]["model"] == "new"
    assert board["rows"][0]["styled"] is not None
    assert board["rows"][0]["without_ties"] is not None
    assert board["turning"]["leader"] == "new"
    assert board["turning"]["change"] <= board["turning"]["drop"]
    assert [effect["covariate"] for effect in board["style"]] == ["tokens", "bold"]
    assert board["both_bad"] > 0
    verdict = json.loads(parley("verdict", "new", "base", "--json")[1])
    assert [row["category"] for row in verdict["categories"]] == ["billing", "orders"]
    assert (verdict["undone_by_drop"] is None) == (verdict["state"] not in ("better", "worse"))
    assert "├" in parley("verdict", "new", "base")[1]
    for name, options in (("v.parquet", []), ("v.csv", []), ("p.jsonl", ["--preferences"])):
        assert parley("votes", "export", str(tmp_path / name), *options)[0] == 0
        assert (tmp_path / name).stat().st_size > 500


@pytest.mark.long
@pytest.mark.parametrize("command", [["leaderboard"], ["verdict", "new", "old"]])
def test_drawn(parley, votes: Path, tmp_path: Path, command: list[str]) -> None:
    path = tmp_path / "plot.html"
    assert "no votes to draw" in parley(*command, "--plot", str(path))[1]
    assert not path.exists()
    parley("votes", "import", str(votes))
    assert "Chart written to" in parley(*command, "--plot", str(path))[1].replace("\n", " ")
    page = path.read_text()
    assert "<script" not in page
    assert "<svg" in page
    assert "new" in page
    for ending, start in (("svg", b"<svg"), ("png", b"\x89PNG")):
        parley(*command, "--plot", str(tmp_path / f"plot.{ending}"))
        assert (tmp_path / f"plot.{ending}").read_bytes().startswith(start)
    assert ".png" in parley(*command, "--plot", str(tmp_path / "plot.pdf"))[2]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["votes", "import", "none.csv"], "no file"),
        (["votes", "import", "VOTES", "--format", "xls"], "format"),
        (["votes", "import", "VOTES", "--columns", "winner"], "name=value"),
        (["votes", "export", "v.xlsx"], "is unknown"),
        (["votes", "export", "v.csv", "--format", "xls"], "is unknown"),
    ],
)
def test_errors_are_one_line(parley, votes: Path, arguments: list[str], expected: str) -> None:
    code, _, line = parley(*(str(votes) if it == "VOTES" else it for it in arguments))
    assert code != 0
    assert expected in line
    assert "\n" not in line
