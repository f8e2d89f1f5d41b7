"""`parley votes`: what the command prints, and its exit status."""

import json
from pathlib import Path

import pytest

import parley
from models.database import Database

HEADER = "model_a,model_b,winner,prompt,voter\n"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The exit status, the output and the errors of `parley votes …`."""
    monkeypatch.setattr("sys.argv", ["parley", "votes", *arguments])
    with pytest.raises(SystemExit) as ended:
        parley.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, database: Database, home: Path) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "200")


def test_a_partial_import_says_so_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "v.csv"
    path.write_text(HEADER + "a,b,left,Why?,ann\na,b,same,Why?,bob\n")
    status, out, _ = run(monkeypatch, capsys, "import", str(path))
    assert status == 1
    assert out.splitlines()[0] == "Partial: 1 of 2 rows of v.csv could not be read."
    assert "map it with --winner 'same=tie'" in out
    assert run(monkeypatch, capsys, "import", str(path), "--partial")[0] == 0


@pytest.mark.long
def test_overlap_undo_exclude_and_merge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = tmp_path / "one.csv", tmp_path / "two.csv"
    first.write_text(HEADER + "a,b,left,Why?,ann\n")
    second.write_text(HEADER + "a,b,left,Why?,ann\nA,b,left,How?,ann\n")
    assert run(monkeypatch, capsys, "import", str(first))[0] == 0
    status, _, error = run(monkeypatch, capsys, "import", str(second))
    assert status == 1
    assert len(error.splitlines()) == 1
    assert "--overlap drop" in error
    status, out, _ = run(monkeypatch, capsys, "import", str(second), "--overlap", "drop")
    assert status == 0
    assert "1 new votes from two.csv (csv), 1 left out as votes of an earlier file." in out
    assert "parley votes merge 'a' 'A'" in out
    assert "A is now a in 1 pairs" in run(monkeypatch, capsys, "merge", "A", "a")[1]
    assert "2 votes of ann no longer count" in run(monkeypatch, capsys, "exclude", "ann", "--reason", "test")[1]
    assert "test" in run(monkeypatch, capsys, "excluded")[1]
    assert "2 votes of ann count again" in run(monkeypatch, capsys, "include", "ann")[1]
    imports = json.loads(run(monkeypatch, capsys, "imports", "--json")[1])
    assert [(row["filename"], row["votes"], row["campaign"]) for row in imports] == [
        ("one.csv", 1, "open"), ("two.csv", 1, "open"),
    ]  # fmt: skip
    assert "1 votes were removed" in run(monkeypatch, capsys, "undo", imports[1]["id"])[1]
    assert "undone" in run(monkeypatch, capsys, "imports")[1]


def test_an_unknown_campaign_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "v.csv"
    path.write_text(HEADER + "a,b,left,Why?,ann\n")
    status, _, error = run(monkeypatch, capsys, "import", str(path), "--campaign", "spring")
    assert status == 1
    assert "There is no campaign 'spring'. Campaigns: open." in error
