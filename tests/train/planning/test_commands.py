"""`parley data count | price | plan | synthesise | advise`: tables that fit, JSON, and one-line errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from models.errors import Invalid, NotFound
from tests.train.conftest import style_rows
from tests.train.data.test_synthesis import FakeChat, fresh


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of conversations."""
    path = tmp_path / "style.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in style_rows(60)), "utf-8")
    return path


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "60")
    # No vocabulary and no network: every count is an estimate, on any machine.
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(home / "no-vocabularies"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    import tiktoken.registry

    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})


def run(*arguments: Any, code: int = 0) -> str:
    """The output of a command."""
    from train.data_cli import data_commands

    app = typer.Typer()
    app.add_typer(data_commands())
    result = CliRunner().invoke(app, ["data", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("command", ["count", "price", "plan", "synthesise", "advise"])
def test_help_teaches_with_an_example(command: str) -> None:
    assert f"parley data {command}" in " ".join(run(command, "--help").split())


def test_counting_shows_a_histogram_and_says_that_it_estimates(data: Path) -> None:
    shown = run("count", data)
    assert "█" in shown
    assert "The numbers are an estimate, because" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 60
    counts = json.loads(run("count", data, "--json", "--lines", "--limit", 20))
    assert counts["estimate"] is True
    assert counts["limit"] == 20
    assert counts["over_limit"] == len(counts["over_limit_lines"]) > 0
    assert len(counts["lengths"]) == counts["examples"] == 60
    assert sum(bar["examples"] for bar in counts["histogram"]) == 60


def test_a_local_base_is_counted_with_its_own_tokenizer(data: Path, tiny_base: Path) -> None:
    counts = json.loads(run("count", data, "--model", tiny_base, "--json"))
    assert counts["way"] == "own tokenizer"
    assert counts["limit"] == 2048


def test_prices_of_all_models_that_are_still_there(data: Path) -> None:
    shown = " ".join(run("price", data).split())
    assert "$" in shown
    assert "days ago: check it" in shown
    assert "* The price is over 90 days old. Set the current price with --price" in shown
    report = json.loads(run("price", data, "--json"))
    providers = {quote["provider"] for quote in report["quotes"]}
    assert "together" in providers
    assert all(quote["estimated"] for quote in report["quotes"])
    assert any("gpt-4.1-nano" in reason for reason in report["left_out"])
    assert report["plan"] is None
    assert all(quote["outdated"] for quote in report["quotes"])


def test_a_given_price_is_used_and_has_no_mark(data: Path) -> None:
    shown = " ".join(run("price", data, "--price", "gpt-4o-mini=6/1/2").split())
    assert "over 90 days old" not in shown
    assert "Tokens: " in shown
    (quote,) = json.loads(run("price", data, "--price", "gpt-4o-mini=6/1/2", "--json"))["quotes"]
    assert (quote["rate"], quote["outdated"]) == (6, False)
    names = [
        quote["model"]
        for quote in json.loads(
            run("price", data, "--model", "gpt-4o", "--price", "gpt-4o-mini=6", "--price", "acme=1", "--json")
        )["quotes"]
    ]
    assert [name.split("-2024")[0] for name in names] == ["gpt-4o", "gpt-4o-mini", "acme"]


def test_a_price_by_name_with_epochs_and_kind(data: Path) -> None:
    report = json.loads(run("price", data, "--model", "Qwen/Qwen3-8B", "--epochs", 2, "--kind", "full", "--json"))
    (quote,) = report["quotes"]
    assert (quote["epochs"], quote["kind"], quote["rate"]) == (2, "full", 0.54)


def test_mistakes_are_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="openai: gpt-"):
        run("price", data, "--model", "gpt-17")
    with pytest.raises(NotFound, match="openai or together"):
        run("price", data, "--provider", "nobody")
    with pytest.raises(Invalid, match="--epochs is 'many'"):
        run("price", data, "--epochs", "many")
    with pytest.raises(NotFound, match="no-such"):
        run("count", tmp_path / "no-such.jsonl")
    with pytest.raises(Invalid, match="NO_SUCH_KEY, which is not set"):
        options = ("--model", "w", "--base-url", "http://127.0.0.1:9/v1", "--credential", "NO_SUCH_KEY")
        run("synthesise", data, tmp_path / "o.jsonl", *options)
    rows = [{"prompt": f"Hi {place}", "completion": "Hello", "label": False} for place in range(12)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(Invalid, match=r"do not train on answers labelled good or bad \(KTO\)"):
        run("price", data)
    with pytest.raises(Invalid, match="There is no seed"):  # only bad answers
        run("synthesise", data, tmp_path / "o.jsonl", "--model", "w", "--base-url", "http://127.0.0.1:9/v1")


@pytest.mark.long
def test_a_plan_fits_60_columns_and_is_json(data: Path, tiny_base: Path) -> None:
    shown = run("plan", data, "--base", tiny_base, "--estimate")
    assert "QLoRA" in shown
    assert "verdict" in shown
    assert max(map(len, shown.splitlines())) <= 60
    report = json.loads(run("price", data, "--provider", "openai", "--base", tiny_base, "--estimate", "--json"))
    assert report["plan"]["ways"][0]["need"]["tune"] == "lora"


@pytest.mark.long
def test_synthesising_through_the_command(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "more.jsonl"
    with FakeChat(fresh) as server:
        address = server.address + "/v1"
        shown = run("synthesise", data, out, "--model", "writer", "--number", 4, "--base-url", address)
        assert "4 of 4 examples made" in shown
        report = json.loads(
            run("synthesise", data, out, "--model", "writer", "--number", 5, "--base-url", address, "--json")
        )
    assert (report["ended"], report["counted"]["made"]) == ("enough", 5)
    assert len(out.read_text("utf-8").splitlines()) == 5


@pytest.mark.long
def test_a_writer_that_never_answers_fails_with_one_line(data: Path, tmp_path: Path) -> None:
    options = ("--model", "w", "--base-url", "http://127.0.0.1:9/v1", "--patience", 1, "--number", 1)
    shown = " ".join(run("synthesise", data, tmp_path / "o.jsonl", *options, code=1).split())
    assert "does not answer" in shown
