"""bench/mtbench.py: the questions are read unchanged, and three of our own run against the demo's engines."""

import json
from pathlib import Path

import pytest

from bench import mtbench
from evals.tasks.task_rows import make_task
from tests.stack import Stack

QUESTIONS = [
    {"turns": ["Where is my order 48213977?", "And how long does that take?"], "category": "orders"},
    {"turns": ["I forgot my password.", "Say it in one short sentence."], "category": "accounts",
     "expected": ["Use the link in the mail.", None]},
    {"turns": ["Please read this: " + "a very long letter, " * 3_000, "What did I write?"], "category": "orders"},
]  # fmt: skip


@pytest.mark.skipif(not mtbench.QUESTIONS.is_file(), reason="the MT-Bench questions are not beside the project")
def test_the_80_questions_have_two_turns_and_30_of_them_references() -> None:
    task = mtbench.read_task()
    assert (len(task.samples), task.bad) == (160, ())
    assert [sample.turn for sample in task.samples[:4]] == [1, 2, 1, 2]
    assert sum(sample.sample.expected is not None for sample in task.samples) == 60
    assert len({sample.sample.prompt for sample in task.samples}) == 80
    categories = [str(sample.sample.category) for sample in mtbench.read_task(16).samples]
    assert sorted(set(categories)) == sorted({str(sample.sample.category) for sample in task.samples})
    assert {categories.count(category) for category in categories} == {4}


def test_without_its_questions_it_exits_with_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mtbench, "QUESTIONS", tmp_path / "none.jsonl")
    assert mtbench.main(["--json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.engine
def test_three_questions_of_two_turns_against_real_engines(
    demo_stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = mtbench.parse_arguments(["--max-tokens", "48", "--out", str(tmp_path / "out")])
    task = make_task("three", "three", [(str(i), row) for i, row in enumerate(QUESTIONS)])
    result = json.loads(json.dumps(mtbench.measure(options, demo_stack.settings, demo_stack.database, task)))
    assert (result["questions"], result["turns"], result["rows"]) == (3, 6, 6)
    for row in result["answers"]:
        # The engine refuses what does not fit its context, and the turns after it are not sent.
        assert (row["answered"], row["failed"]) == (4, 2)
        assert any("context" in error or "maximum" in error for error in row["errors"])
    groups = {group["name"]: group for group in result["groups"]}
    assert set(groups) == {"everything", "accounts", "orders", "turn 1", "turn 2"}
    assert (groups["orders"]["nulls"], groups["accounts"]["nulls"]) == (2, 0)
    assert result["judged"] + sum(result["nulls"].values()) == 6
    assert result["judged"] >= 1
    judged = (tmp_path / "out" / "judged.html").read_text()
    assert "no answer from support-concise" in judged
    assert "assistant: " in judged
    assert "judge:support-judge@general" in (tmp_path / "out" / "answers.html").read_text()
    mtbench.show(result)
    assert "everything" in capsys.readouterr().out
