"""train/data: choices, weights, verdicts and images beside a conversation are reported or refused."""

from typing import Any

import pytest

from train.data.checks import check

ROME = {"question": "Which is the capital of Italy?", "answer": "Rome"}


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"choices": ["Rome", "Bern"]}, "`choices` contains text"),
        ({"A": "Rome", "B": "Bern"}, "`B` contains text"),
        ({"options": [1, 2]}, "`options` contains text"),
        ({"rejected_answer": "No"}, "`rejected_answer` contains text"),
        ({"rejected": True}, "`rejected` says that the answer is bad"),
        ({"is_good": False}, "`is_good` says that the answer is bad"),
        ({"feedback": "thumbs_down"}, "`feedback` says that the answer is bad"),
        ({"weight": 0.2}, "`weight` is a weight of the whole row"),
        ({"loss_mask": [0, 1]}, "`loss_mask` is a weight of the whole row"),
        ({"train": False}, "`train` is a weight of the whole row"),
        ({"image_url": "https://example.org/a.png"}, "`image_url` names a file"),
    ],
)
def test_choices_weights_and_verdicts_beside_a_conversation_are_reported(beside: dict[str, Any], message: str) -> None:
    (warning,) = [problem for problem in check([ROME | beside]).problems if problem.code == "unread-field"]
    assert warning.message.startswith(f"{message} and is not read")


def test_what_is_no_text_verdict_or_weight_is_not_reported() -> None:
    row = ROME | {"question": "Which is the capital of Italy? A) Rome B) Bern"}
    rows = [row | {"choices": ["Rome", "Bern"]}, ROME | {"is_good": True, "weight": 1, "train": "train", "loss": 0.7},
            ROME | {"rating": "5", "accepted": True, "rejected": False, "has_image": False}]  # fmt: skip
    assert "unread-field" not in check(rows).codes
    assert check([ROME | {"kto_label": False}]).examples[0].label is False


def test_an_image_of_another_name_that_the_text_refers_to_is_refused() -> None:
    row = {"question": "<image>\nWhat is it?", "answer": "A cat", "image_path": "a.png"}
    assert [problem.code for problem in check([row]).errors if problem.line] == ["not-text"]
