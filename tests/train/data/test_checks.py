"""train/data/checks.py: usable rows, and the problems reported about the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.train.conftest import style_rows
from train.data.checks import UnusableData, check, require_usable
from train.data.conversations import Example
from train.data.readers import Columns, read

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data folder is not beside the project")


def row(*turns: str) -> dict[str, Any]:
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": roles[turn[0]], "content": turn[1:]} for turn in turns]}


@pytest.mark.parametrize(
    ("row", "severity", "about"),
    [
        (row("uHi"), "error", "no assistant message"),
        (row("uHi", "a  \n"), "error", "message 2 (assistant) is empty"),
        (row("uHi", "sBe kind", "aHello"), "error", "after another message"),
        (row("uHi", "aHel\ufffdlo"), "warning", "encoding"),
        (row("sBe kind", "aHello"), "warning", "no user message"),
        (row("uHi", "uAnybody?", "aHello"), "warning", "in a row"),
        (row("uHi", "aHello", "uBye"), "warning", "ends with a user message"),
    ],
)
def test_each_fault_is_found_at_its_line(row: dict[str, Any], severity: str, about: str) -> None:
    rows = [*style_rows(60), row]
    report = check(rows)
    problems = [problem for problem in report.problems if problem.line == 61]
    (problem,) = [problem for problem in problems if problem.code != "inconsistent-system"]
    assert problem.severity == severity
    assert about in problem.message
    assert problem.mend
    assert (61 in {example.line for example in report.examples}) == (severity == "warning")
    assert report.left_out == (severity == "error")


def test_copies_are_reported_and_kept() -> None:
    rows = style_rows(60)
    report = check([*rows, rows[3]])
    assert any(problem.line == 61 and "line 4" in problem.message for problem in report.problems)
    assert len(report.examples) == 61


def test_too_few_is_an_error_and_few_a_warning() -> None:
    report = check(style_rows(9))
    assert not report.usable
    with pytest.raises(UnusableData, match="9 usable examples") as caught:
        require_usable(report)
    assert caught.value.problems == report.problems
    assert caught.value.exit_code == 1
    assert check(style_rows(10)).usable
    assert [problem.severity for problem in check(style_rows(10)).problems] == ["warning"]
    assert not check(style_rows(50)).problems
    here = check(style_rows(3), provider="local")  # ten is OpenAI's minimum
    assert here.usable
    assert [(problem.severity, problem.code) for problem in here.problems] == [("warning", "too-few")]
    assert not check([], provider="local").usable


def test_one_example_for_each_answer_on_request() -> None:
    rows = [*style_rows(9), row("uOne?", "aFirst.", "uTwo?", "aSecond.")]
    report = check(rows, per_turn=True)
    assert len(report.examples) == 11
    first, second = report.examples[-2:]
    assert [len(turn.conversation.messages) for turn in (first, second)] == [2, 4]
    assert second.learnt == (3,)


def test_the_report_is_one_and_json() -> None:
    report = check([*style_rows(20), row("uHi")]).to_json()
    assert json.loads(json.dumps(report)) == report
    assert (report["lines"], report["examples"], report["left_out"], report["usable"]) == (21, 20, 1, True)
    assert report["codes"] == {"too-few": 1, "no-assistant": 1}
    assert report["problems"][1] | {"message": "", "mend": ""} == {
        "line": 21, "severity": "error", "code": "no-assistant", "message": "", "mend": "",
    }  # fmt: skip
    assert sum(bar["examples"] for bar in report["characters"]["histogram"]) == 20
    assert report["turns"]["largest"] == 1


@needs_data
def test_the_toy_file_of_the_openai_cookbook() -> None:
    report = check(DATA / "openai_chat" / "toy_chat_fine_tuning.jsonl")
    assert len(report.examples) == 5
    assert not report.usable
    assert any(problem.line == 4 and problem.message == "no user message" for problem in report.problems)


@pytest.mark.long
@needs_data
def test_the_bitext_csv_is_read_whole() -> None:
    report = check(DATA / "bitext" / "bitext_20230818.csv", Columns(prompt="instruction"))
    assert len(report.examples) == 4_514
    assert not report.errors
    assert report.codes == {"personal-email": 2, "near-duplicate": 1, "unread-field": 3}
    read_whole = next(iter(read(DATA / "bitext" / "bitext_20230818.csv")))
    assert isinstance(read_whole, Example)
    assert read_whole.conversation == report.examples[0].conversation  # "customer support" is not part of a question
