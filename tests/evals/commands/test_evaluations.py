"""`parley eval` over a real socket: run, list, show, diff, scorers; one-line errors."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.database import Database
from models.errors import ParleyError
from models.keys import create_key
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream
from parley import build
from tests.evals.upstream import AnsweringServer

ROWS = [
    {"input": "before we start", "expected": "before", "category": "first"},
    {"input": "say hello", "expected": "after says: say hello", "category": "first"},
    {"input": "refuse me", "expected": "never", "category": "second"},
    {"input": "tell [bold]more[/bold]", "expected": "before says: tell", "category": "second"},
]


@pytest.fixture
def server() -> Iterator[AnsweringServer]:
    with AnsweringServer() as running:
        yield running


@pytest.fixture
def parley(home: Path, database: Database, server: AnsweringServer, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Runs `parley` with the answering server as its gateway; returns (exit code, output, error line)."""
    monkeypatch.setenv("PARLEY_HOME", str(home))
    monkeypatch.setenv("PARLEY_PORT", str(server.port))
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("before", "after"):
        upstream = Upstream(base_url=server.address, model=name)
        Registry(database).register(ModelSpec(id=name, kind="hosted", upstream=upstream, toy=name == "after"))
    Registry(database).alias("latest", "after")

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(build(), ["eval", *arguments])
        error = str(result.exception) if isinstance(result.exception, ParleyError) else ""
        assert result.exception is None or error or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.output, error

    return run


@pytest.fixture
def faq(tmp_path: Path) -> str:
    path = tmp_path / "faq.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    return str(path)


@pytest.mark.long
def test_run_list_show_diff(parley, server: AnsweringServer, faq: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    code, output, _ = parley(
        "run", faq, "--models", "before,latest", "--scorers", "includes,length:1-9,regex:s,a", "--html", str(report)
    )
    assert code == 0
    for expected in ("includes", "first", "difference", "not enough evidence", "1 of 4 failed", "Worse:", "a toy"):
        assert expected in output
    assert "[bold]" in output
    assert "<svg" in report.read_text()
    before = len(server.asked)
    code, output, _ = parley("run", faq, "--models", "before,latest", "--scorers", "rouge-l,chrf", "--json")
    result = json.loads(output)
    assert len(server.asked) == before + 2  # only what had failed
    assert result["models"] == ["before", "after"]
    assert result["answers"][0] | {"errors": 0} == {
        "model": "before", "answered": 3, "failed": 1, "cut": 0, "errors": 0,
    }  # fmt: skip
    assert {row["scorer"] for row in result["scores"]} == {"rouge-l", "chrf"}
    listed = json.loads(parley("list", "--json")[1])
    assert [row["task"] for row in listed] == ["faq", "faq"]
    assert listed[0]["id"] == result["id"]
    assert "faq" in parley("list")[1]
    first = listed[1]["id"]
    shown = json.loads(parley("show", first, "--json")[1])
    assert shown["diff"]["comparisons"] == 0  # three pairs are not enough evidence
    assert "includes" in parley("show", first[-6:])[1]
    compared = json.loads(parley("diff", f"{first}:before", f"{first}:latest", "--json")[1])
    assert {row["scorer"] for row in compared["differences"]} == {"includes", "length:1-9", "regex:s,a"}
    assert compared["regressions"][0]["answer_b"].startswith("after says")
    assert "difference" in parley("diff", "last:before", "last:after")[1]


def test_a_narrow_terminal_folds_and_cuts_nothing(parley, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "a-task-with-a-long-name.jsonl"
    rows = [{"input": f"q{i}", "category": "freeze_membership_for_a_month"} for i in range(20)]
    path.write_text("\n".join(json.dumps(row) for row in [*rows, {"input": "other", "category": "x"}]))
    monkeypatch.setenv("COLUMNS", "60")
    code, output, _ = parley("run", str(path), "--models", "before,after", "--scorers", "words,exact")
    assert code == 0
    assert "…" not in output
    assert "after compared with before:" in output
    assert max(map(len, output.splitlines())) <= 60
    assert "exact has no reference" in " ".join(output.split())
    listed = parley("list")[1]
    assert "…" not in listed
    assert json.loads(parley("list", "--json")[1])[0]["id"][-8:] in listed


def test_counts_of_one_are_singular(parley, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"input": "one?", "expected": "after"}))
    output = parley("run", str(path), "--models", "before,after", "--scorers", "includes")[1]
    assert "No score got worse, 1 got better." in output
    output = parley("run", str(path), "--models", "before", "--scorers", "includes")[1]
    assert "No new answer was needed; 1 came from the cache." in output


def test_bad_rows_are_listed_and_skipped_only_with_the_flag(parley, faq: str) -> None:
    with Path(faq).open("a") as file:
        file.write('\n{"oops": 1}\n[]')
    code, output, line = parley("run", faq, "--models", "before", "--scorers", "exact")
    assert code != 0
    assert "line 5" in output
    assert "line 6" in output
    assert "2 of 6 rows" in line
    assert "--skip-bad" in line
    result = json.loads(parley("run", faq, "--models", "before", "--scorers", "exact", "--skip-bad", "--json")[1])
    assert (result["samples"], result["left_out"]) == (4, 2)


def test_the_task_is_compared_with_training_data(parley, faq: str, tmp_path: Path) -> None:
    training = tmp_path / "train.jsonl"
    training.write_text(json.dumps({"messages": [{"role": "user", "content": "Say hello!"}]}))
    _, output, _ = parley("run", faq, "--models", "before", "--scorers", "exact", "--training", str(training))
    assert "1 of 4 questions are in the training data" in output
    assert "sample 2: copied, line 1" in output
    assert "1 copied" in json.loads(parley("show", "last", "--json")[1])["notes"][0]


def test_embeddings_come_from_the_gateway_or_the_error_says_why(parley, server: AnsweringServer, faq: str) -> None:
    result = json.loads(parley("run", faq, "--models", "before", "--scorers", "embedding:e", "--json")[1])
    assert 0 < result["scores"][0]["mean"] <= 1
    server.embeddings = False
    result = json.loads(parley("run", faq, "--models", "before", "--scorers", "embedding:e", "--json")[1])
    assert result["scores"][0]["mean"] is None
    assert "no /v1/embeddings" in result["scorer_errors"][0]["error"]


def test_the_scorers_are_listed(parley) -> None:
    output = parley("scorers")[1]
    for name in ("exact", "regex:PATTERN", "length:5-40", "rouge-l", "file.py:function", "parley.scorers"):
        assert name in output
    assert {"name", "typed", "help", "better"} == set(json.loads(parley("scorers", "--json")[1])[0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "none.jsonl", "--models", "before", "--scorers", "exact"], "no file"),
        (["run", "FAQ", "--models", "nobody", "--scorers", "exact"], "no model 'nobody'"),
        (["run", "FAQ", "--models", "before", "--scorers", "nobody"], "no scorer 'nobody'"),
        (["run", "FAQ", "--models", "before,before", "--scorers", "exact"], "each only once"),
        (["run", "FAQ", "--models", "before", "--scorers", "exact", "--temperature", "-1"], "0 or more"),
        (["run", "FAQ", "--models", "before", "--scorers", "exact", "--columns", "input"], "names no column"),
        (["run", "FAQ", "--models", "before", "--scorers", "exact", "--limit", "0"], "limit must be 1 or more"),
        (["show", "last"], "no evaluations yet"),
        (["show", "ABCDEF"], "no finished evaluation"),
        (["diff", "last", "last"], "no evaluations yet"),
    ],
)
def test_errors_are_one_line(parley, faq: str, arguments: list[str], expected: str) -> None:
    code, _, line = parley(*(faq if argument == "FAQ" else argument for argument in arguments))
    assert code != 0
    assert expected in line
    assert "\n" not in line


def test_a_key_is_required_if_keys_exist(parley, database: Database, faq: str) -> None:
    create_key(database, name="me", role="owner")
    assert "PARLEY_PAGE_KEY" in parley("run", faq, "--models", "before", "--scorers", "exact")[2]
