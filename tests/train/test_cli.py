"""train/cli.py: helpful help, and one-line errors before anything heavy is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import train.cli
from models.errors import Invalid, NotFound
from models.settings.settings import Settings
from tests.train.conftest import style_rows
from train.data.checks import UnusableData


@pytest.fixture
def parley(database: Any, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `parley …` over a fresh home with this room's commands."""
    monkeypatch.setenv("PARLEY_HOME", str(settings.home))
    monkeypatch.setenv("COLUMNS", "200")
    app = typer.Typer()
    train.cli.add_commands(app)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def test_the_help_shows_an_example_and_every_panel(parley: Any) -> None:
    help_text = parley("train", "--help").output
    assert "parley train tickets.jsonl --base demo-base --name support-v1" in help_text
    assert all(
        word in help_text
        for word in ("--prompt-column", "--kind", "--validation", "How", "Data", "--tune", "What learns")
    )
    assert "--nodes 2 --node-rank 1 --rendezvous 10.0.0.7:29400" in help_text
    assert "parley merge support-v1 --name support-v1-merged" in parley("merge", "--help").output


def test_bad_data_is_a_table_and_one_line(parley: Any, tiny_base: Path, tmp_path: Path) -> None:
    odd = {"messages": [{"role": "[/b]", "content": "x"}]}
    data = write(tmp_path / "a.jsonl", [{"messages": "none"}, odd])
    run = parley("train", data, "--base", tiny_base, "--name", "x")
    assert isinstance(run.exception, UnusableData)
    assert run.exception.exit_code == 1
    assert "no `messages` list" in run.output
    assert "unknown role '[/b]'" in run.output
    assert "no usable example" in run.output
    report = json.loads(parley("train", data, "--base", tiny_base, "--name", "x", "--json").stdout)
    assert [problem["line"] for problem in report["problems"]] == [0, 1, 2]


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "error", "about"),
    [
        (("--base", "nobody"), Invalid, "not a registered model, a folder or a hub id"),
        (("--base", "~nobody-of-this-name/x"), Invalid, "not a registered model, a folder or a hub id"),
        (("--base", "BASE", "--rank", "many"), Invalid, "--rank"),
        (("--base", "BASE", "--kind", "whole"), Invalid, "kind is"),
        (("--base", "BASE", "--validation", "0.9"), Invalid, "validation share"),
        (("--base", "BASE", "--name", "no good"), Invalid, "id"),
        (("--base", "BASE", "--tune", "all"), Invalid, "use lora, qlora or full"),
        (("--base", "BASE", "--tune", "full", "--dora"), Invalid, "dora belongs to adapters"),
        (("--base", "BASE", "--tune", "full", "--rank", "8"), Invalid, "rank belongs to adapters"),
        (("--base", "BASE", "--beta", "0.2"), Invalid, "beta belongs to DPO"),
        (("--base", "BASE", "--method", "ppo"), Invalid, "use sft, dpo or kto"),
        (("--base", "BASE", "--method", "dpo"), Invalid, "DPO learns from pairs of answers"),
        (("--base", "BASE", "--packing", "tight"), Invalid, "use auto, length or packed"),
        (("--base", "BASE", "--precision", "fp16"), Invalid, "fp16 needs a GPU"),
        (("--base", "BASE", "--validation", "0", "--early-stopping", "2"), Invalid, "held-out examples"),
        (("--base", "BASE", "--batch-size", "3", "--gpus", "2"), Invalid, "cannot share evenly"),
        (("--base", "BASE", "--nodes", "2"), Invalid, "also needs --node-rank"),
        (("--base", "BASE", "--on", "auto", "--node-rank", "1"), Invalid, "Ray places the nodes"),
        (("--base", "BASE", "--shard", "fsdp"), Invalid, "use more gpus or nodes"),
        (("--base", "BASE", "--tracker", "paper"), Invalid, "wandb, tensorboard, trackio"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_run(
    parley: Any, tiny_base: Path, tmp_path: Path, settings: Settings, words: Any, error: Any, about: str
) -> None:
    data = write(tmp_path / "a.jsonl", style_rows(12))
    given = [str(tiny_base) if word == "BASE" else word for word in words]
    run = parley("train", data, *(["--name", "x"] if "--name" not in given else []), *given)
    assert isinstance(run.exception, error)
    assert about in str(run.exception)
    assert "\n" not in str(run.exception)
    assert not list(settings.runs_dir.glob("*"))


def test_a_missing_file_and_an_unknown_adapter(parley: Any, tiny_base: Path) -> None:
    run = parley("train", "/nowhere.jsonl", "--base", tiny_base, "--name", "x")
    assert isinstance(run.exception, NotFound)
    assert isinstance(parley("merge", "nobody", "--name", "x").exception, NotFound)
