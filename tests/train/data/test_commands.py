"""train/data/commands.py: check, convert and split from a terminal, as tables and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from models.errors import Conflict, Invalid
from tests.train.conftest import style_rows
from tests.train.data.test_readers import lines
from train.data.checks import check
from train.data_cli import data_commands

FAULTS = Path(__file__).parent / "faults"


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs `parley data …` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer()
    app.add_typer(data_commands())
    runner = CliRunner(env={"COLUMNS": "120"})
    return lambda *words: runner.invoke(app, ["data", *map(str, words)])


def test_check_prints_each_kind_once_and_json_has_all(data: Any, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "[/b]", "content": "x"}]}] * 6
    path = lines(tmp_path / "a.jsonl", *style_rows(60), *rows)
    run = data("check", path)
    assert run.exit_code == 1
    assert run.output.count("unknown role '[/b]'") == 1
    assert "61, 62, 63, 64 and 2 more" in run.output
    assert data("check", path, "--all").output.count("unknown role '[/b]'") == 6
    report = json.loads(data("check", path, "--json").output)
    assert report == check(path).to_json()


def test_check_passes_with_warnings_unless_it_is_strict(data: Any) -> None:
    path = lines(Path("a.jsonl"), *style_rows(20))
    assert data("check", path).exit_code == 0
    assert "usable, with warnings: 0 errors, 1 warning" in data("check", path).output
    assert data("check", path, "--strict").exit_code == 1
    few = lines(Path("few.jsonl"), *style_rows(5))
    assert data("check", few).exit_code == 1
    assert data("check", few, "--provider", "local").exit_code == 0
    assert isinstance(data("check", few, "--provider", "acme").exception, Invalid)


def test_check_holds_validation_data_against_the_training_data(data: Any) -> None:
    run = data("check", FAULTS / "leakage.train.jsonl", "--validation", FAULTS / "leakage.validation.jsonl")
    assert run.exit_code == 1
    assert "leakage" in run.output
    assert "validation" in run.output


def test_convert_writes_openai_rows_whole_and_never_over_a_file(data: Any) -> None:
    Path("a.csv").write_text("question,answer,topic\nHi,Hello,x\nbroken\nBye,See you,y\n")
    run = data("convert", "a.csv", "out/b.jsonl", "--system", "Be kind.", "--metadata")
    assert run.exit_code == 0, run.output
    assert "2 rows from 3 lines (question-answer), 1 left out" in run.output
    first, second = map(json.loads, Path("out/b.jsonl").read_text().splitlines())
    assert first == {
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
        ],
        "metadata": {"topic": "x"},
    }
    assert second["metadata"] == {"topic": "y"}
    assert isinstance(data("convert", "a.csv", "out/b.jsonl").exception, Conflict)
    report = json.loads(data("convert", "a.csv", "out/b.jsonl", "--force", "--json").output)
    assert (report["written"], report["left_out"], report["problems"][0]["line"]) == (2, 1, 3)
    assert [path.name for path in Path("out").iterdir()] == ["b.jsonl"]


def test_an_export_of_windows_and_a_text_with_roles_become_openai_rows(data: Any) -> None:
    Path("a.csv").write_bytes("Frage;Antwort\nGr\u00fc\u00dfe?;Sch\u00f6n, danke\n".encode("cp1252"))
    named = ("--prompt-column", "frage", "--response-column", "antwort")
    assert "--encoding cp1252" in " ".join(data("check", "a.csv", *named).output.split())
    run = data("convert", "a.csv", "a.jsonl", *named, "--encoding", "cp1252")
    assert run.exit_code == 0, run.output
    Path("b.txt").write_text("User: Gr\u00fc\u00dfe?\nAssistant: Sch\u00f6n, danke\n", "utf-8")
    assert data("convert", "b.txt", "b.jsonl", "--format", "names").exit_code == 0
    rows = [json.loads(Path(name).read_text("utf-8")) for name in ("a.jsonl", "b.jsonl")]
    assert rows[0] == rows[1]
    assert rows[0]["messages"][1]["content"] == "Sch\u00f6n, danke"


def test_convert_per_turn_gives_each_answer_its_context(data: Any) -> None:
    lines(Path("a.jsonl"), {"turns": ["One?", "First.", "Two?", "Second."]})
    assert data("convert", "a.jsonl", "b.jsonl", "--per-turn").exit_code == 0
    first, second = (json.loads(row)["messages"] for row in Path("b.jsonl").read_text().splitlines())
    assert [message["content"] for message in first] == ["One?", "First."]
    assert [message.get("weight") for message in second] == [None, 0, None, None]


def test_split_writes_two_files_evenly_by_a_field(data: Any) -> None:
    rows = [row | {"topic": "ab"[place % 4 == 0]} for place, row in enumerate(style_rows(80))]
    lines(Path("a.jsonl"), *rows)
    run = data("split", "a.jsonl", "--share", 0.2, "--by", "topic")
    assert run.exit_code == 0, run.output
    assert "20.0%" in run.output
    parts = [check(Path(f"a.{part}.jsonl")) for part in ("train", "validation")]
    assert [len(part.examples) for part in parts] == [64, 16]
    assert sum(example.metadata["topic"] == "b" for example in parts[1].examples) == 4
    assert not check("a.train.jsonl", validation="a.validation.jsonl").validation.errors  # type: ignore[union-attr]  # given
    assert isinstance(data("split", "a.jsonl").exception, Conflict)
    report = json.loads(data("split", "a.jsonl", "--force", "--by", "topic", "--json").output)
    assert report["strata"]["b"] == [18, 2]
