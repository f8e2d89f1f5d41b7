"""Rows whose answer is labelled good or bad, for KTO: TRL's {"prompt", "completion", "label"}, and other conversations
with such a label.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from train.data.conversations import Example
from train.data.openai_rows import Items
from train.data.row_fields import RowError

Row = Mapping[str, Any]

_LABELS = ("label", "kto_tag", "desirable", "thumbs_up")
_GOOD = ("true", "1", "good", "desirable", "chosen", "thumbs_up", "up", "like")
_BAD = ("false", "0", "-1", "bad", "undesirable", "rejected", "thumbs_down", "down", "dislike")


def label_field(row: Row) -> str | None:
    """The field that says whether a row's answer is good; None if there is none."""
    return next((name for name in label_names(row) if _label(row[name]) is not None), None)


def label_names(row: Row) -> list[str]:
    """The fields of a row that may have the label of its answer, in any case."""
    return [name for name in row if str(name).lower() in _LABELS]


def is_answer_label(value: Any) -> bool:
    """Whether a value says that an answer is good or bad."""
    return _label(value) is not None


def _label(value: Any) -> bool | None:
    word = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    word = word.removesuffix(".0")  # a table makes floats of numbers where some are missing
    return True if word in _GOOD else False if word in _BAD else None


def labelled_items(line: int, row: Row, read: Callable[[int, Row], Items]) -> Items:
    """The items of a row as examples with its label, which applies to the last answer only.

    Args:
        line: the row's line.
        row: the row.
        read: reads the row without its label.

    Raises:
        RowError: the row has no label, or `read` cannot read it.
    """
    name = label_field(row)
    if name is None:
        raise RowError("no `label`", 'write {"prompt": …, "completion": …, "label": true or false}', "wrong-type")
    label = _label(row[name])
    for item in read(line, {key: value for key, value in row.items() if key != name}):
        yield _labelled(item, label) if isinstance(item, Example) else item


def _labelled(example: Example, label: bool | None) -> Example:
    messages = example.conversation.messages
    last = len(messages)
    while last and messages[last - 1].role == "assistant":
        last -= 1
    earlier = {place for place in range(last) if messages[place].role == "assistant"}
    return replace(example, unweighted=example.unweighted | earlier, label=label)
