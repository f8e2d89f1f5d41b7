"""train/data/advice.py and `parley data advise`: which question decides, and the questions in a terminal."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from models.errors import Invalid
from tests.train.conftest import style_rows
from tests.train.data.test_readers import lines
from train.data import commands
from train.data.advice import QUESTIONS, Answers, advise


@pytest.mark.parametrize(
    ("examples", "answers", "choice", "reason"),
    [
        (800, Answers(), "prompting", "No prompt"),
        (800, Answers(tried="nothing", documents=True), "prompting", "No prompt"),
        (800, Answers(tried="prompt", citations=True), "retrieval", "name their source"),
        (800, Answers(tried="few-shot", knowledge_changes="weekly"), "retrieval", "facts change faster"),
        (800, Answers(tried="prompt", documents=True), "retrieval", "Documents"),
        (800, Answers(tried="retrieval", documents=True, citations=True), "fine-tuning", "800 examples are enough"),
        (12, Answers(tried="prompt"), "prompting", "12 examples are too few"),
        (60, Answers(tried="few-shot", knowledge_changes="never"), "fine-tuning", "60 examples are enough"),
        (60, Answers(tried="prompt", latency_ms=500), "fine-tuning", "500 ms"),
        (60, Answers(tried="prompt", requests_per_day=20_000), "fine-tuning", "20,000 requests"),
        (60, Answers(tried="prompt", at_home=True), "fine-tuning", "stay on your machines"),
    ],
)
def test_the_first_question_that_applies_decides(examples: int, answers: Answers, choice: str, reason: str) -> None:
    advice = advise(examples, answers)
    assert advice.choice == choice
    assert reason in advice.reasons[0]
    assert "{" not in " ".join(advice.reasons)


def test_open_questions_are_named_and_the_advice_is_json() -> None:
    advice = advise(60, Answers(tried="prompt", documents=False))
    assert advice.unanswered == ("citations", "knowledge_changes", "latency_ms", "requests_per_day", "at_home")
    assert json.loads(json.dumps(advice.to_json()))["choice"] == "fine-tuning"
    assert {question.answer for question in QUESTIONS} == {*Answers().__dict__, "examples"}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Runs `parley data advise` on 60 examples."""
    app = typer.Typer()
    app.command()(commands.advise_command)
    data = lines(tmp_path / "style.jsonl", *style_rows(60))
    runner = CliRunner(env={"COLUMNS": "100"})
    return lambda *flags, keys="": runner.invoke(app, [str(data), *flags], input=keys)


def test_the_command_prints_the_decision_or_json(run: Any) -> None:
    shown = run("--tried", "few-shot", "--knowledge-changes", "never").output
    assert "Start with fine-tuning." in shown
    assert "Not answered: --citations, --documents" in shown
    advice = json.loads(run("--tried", "nothing", "--json").output)
    assert (advice["choice"], advice["examples"]) == ("prompting", 60)
    assert isinstance(run("--tried", "magic").exception, Invalid)


def test_a_terminal_gets_the_questions_that_no_flag_answers(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        stdin = stdout = type("Tty", (), {"isatty": staticmethod(lambda: True)})

    monkeypatch.setattr(commands, "sys", Terminal)
    shown = " ".join(run("--tried", "few-shot", keys="\nsometimes\nweekly\nyes\nno\n").output.split())
    assert "How often do the facts change?" in shown
    assert "Enter one of never, monthly" in shown  # "sometimes" is not an option
    assert "What have you tried" not in shown  # a flag answers it
    assert "Start with retrieval" in shown
    assert "Not answered: --citations, --latency-ms, --requests-per-day" in shown
