"""train/data/label_fields.py: a context or a label that belongs to no answer is metadata, with a warning."""

from pathlib import Path
from typing import Any

import pytest

from train.data.checks import check
from train.data.reports import CheckedData

PAIR = {"question": "Hi", "answer": "Hello"}


def unread(report: CheckedData) -> list[str]:
    return [problem.message for problem in report.problems if problem.code == "unread-field"]


def questions(report: CheckedData) -> list[str]:
    return [example.conversation.messages[0].content for example in report.examples]


def test_a_context_that_only_one_row_has_belongs_to_its_question() -> None:
    rows: list[dict[str, Any]] = [PAIR | {"question": f"Hi {place}", "context": None} for place in range(9)]
    report = check([*rows, PAIR | {"context": "Rome, 1960"}], provider="local")
    assert questions(report)[-1] == "Hi\n\nRome, 1960"
    assert unread(report) == []


def test_a_context_of_rows_in_its_order_is_no_label() -> None:
    rows = [PAIR | {"question": f"Hi {place}", "context": f"Python 3.{place // 100}"} for place in range(300)]
    assert questions(check(rows, provider="local"))[0] == "Hi 0\n\nPython 3.0"


def test_a_constant_context_in_a_table_with_the_usual_columns_is_a_label(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,response,context\n" + "".join(f"Hi {place},Hello,customer support\n" for place in range(6)))
    report = check(path, provider="local")
    assert questions(report)[5] == "Hi 5"
    assert report.examples[5].metadata == {"context": "customer support"}
    assert unread(report) == [
        '`context` is the label "customer support" in every row and is not read: in 6 rows, the first is line 2'
    ]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_numbers_that_are_classes_are_no_labels_of_answers(kind: str, tmp_path: Path) -> None:
    rows = [PAIR | {"question": f"Hi {place}", "label": place % 4} for place in range(20)]
    data: Any = rows
    if kind == "csv":
        data = tmp_path / "a.csv"
        lines = [f"{row['question']},{row['answer']},{row['label']}\n" for row in rows]
        data.write_text("prompt,response,label\n" + "".join(lines))
    report = check(data, provider="local")
    assert [example.label for example in report.examples] == [None] * 20
    assert [example.metadata["label"] for example in report.examples[:4]] == ["0", "1", "2", "3"]
    assert not report.errors
    (message,) = unread(report)
    assert message.startswith("`label` is a class or a rating (such as 2) and is not read: in 20 rows")


def test_a_label_counts_in_any_case() -> None:
    (example,) = check([{"prompt": "Hi", "completion": "Go away", "Label": False}], provider="local").examples
    assert example.label is False


def test_metadata_beside_a_label_stays() -> None:
    rows = [PAIR | {"question": f"Hi {place}", "label": 3, "metadata": "web"} for place in range(2)]
    assert check(rows, provider="local").examples[0].metadata == {"label": "3", "metadata": "web"}
