"""Contamination: copies and near copies are located, other questions are not reported, any chat file is read."""

import json
import random
from pathlib import Path

import pytest

from evals.tasks.contamination import contamination, read_taught
from evals.tasks.task_rows import make_task
from models.errors import Invalid, NotFound

QUESTION, ANSWER = {"role": "user", "content": "Q now?"}, {"role": "assistant", "content": "A"}
LONG = "My parcel with the blue lamp was sent on Monday and has not come until today, where can it be now"


def task(*rows: dict):
    return make_task("t", "t", [(str(i), row) for i, row in enumerate(rows)])


def chat(*turns: str) -> str:
    roles = ("user", "assistant")
    return json.dumps({"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]})


def test_copies_and_near_copies_are_located(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    first = chat("How do I pay?", "By card.", "And where?", "On the page.")
    path.write_text("\n".join([first, "", chat(LONG, "On its way."), chat("Hello", "Hi")]))
    samples = task(
        {"input": "how do I PAY", "expected": "By card"},
        {"input": "And where?", "expected": "Nowhere"},
        {"input": LONG + " please"},
        {"input": "today " + " ".join(reversed(LONG.split()))},
        {"input": "What is the weather like in the north this week"},
    ).samples
    overlaps = contamination(samples, read_taught(path))
    assert [(o.sample.id, o.place, o.exact, o.answer_too) for o in overlaps.found] == [
        ("1", "line 1", True, True), ("2", "line 1", True, False), ("3", "line 3", False, False),
    ]  # fmt: skip
    assert 0.8 <= overlaps.found[2].overlap < 1
    assert overlaps.taught == 5  # four turns, and the first conversation's two together
    assert "3 of 5 questions are in the training data: 2 copied exactly, 1 nearly the same, 1 with" in overlaps.summary
    assert "None of 5" in contamination(samples, []).summary


def test_near_copies_among_many_match_and_others_do_not() -> None:
    draw = random.Random(3)
    words = [f"word{i}" for i in range(400)]

    def text() -> list[str]:
        return draw.choices(words, k=24)

    texts = [text() for _ in range(300)]
    near = [[*words_, "indeed"] for words_ in texts[:60]]
    far = [text() for _ in range(60)]
    lessons = read_lessons([" ".join(t) for t in texts])
    samples = task(*({"input": " ".join(t)} for t in (*near, *far))).samples
    overlaps = contamination(samples, lessons)
    assert {overlap.sample.id for overlap in overlaps.found} == {str(i) for i in range(1, 61)}


def read_lessons(texts: list[str]):
    from evals.tasks.contamination import Taught

    return [Taught(f"line {i}", text, "") for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [QUESTION], "chosen": [ANSWER], "rejected": []},
        {"input": {"messages": [QUESTION]}, "preferred_output": [ANSWER], "non_preferred_output": []},
        {"prompt": "Q now?", "completion": "A"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Q now?"}]}, ANSWER]},
    ],
)
def test_every_form_of_training_file_is_read(row: dict, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(row))
    (overlap,) = contamination(task({"input": "q now", "expected": "a"}).samples, read_taught(path)).found
    assert (overlap.exact, overlap.answer_too) == (True, True)


@pytest.mark.parametrize("line", ["{", "5", '{"text": "x"}', '{"messages": [1]}'])
def test_a_line_without_a_conversation_is_refused(line: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(line)
    with pytest.raises(Invalid, match="line 1"):
        list(read_taught(path))
    with pytest.raises(NotFound):
        list(read_taught(tmp_path / "none"))
