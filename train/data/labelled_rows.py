"""Rows whose answer is labelled good or bad, for KTO: TRL's {"prompt", "completion", "label"}, and other conversations
with such a label.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from train.data.answer_labels import read_label
from train.data.conversations import Example
from train.data.openai_rows import Items
from train.data.row_fields import RowError

Row = Mapping[str, Any]

_LABELS = ("label", "labels", "kto_tag", "kto_label", "desirable", "is_desirable", "thumbs_up")


def label_field(row: Row) -> str | None:
    """The field that says whether a row's answer is good; None if there is none."""
    return next((name for name in label_names(row) if read_label(row[name]) is not None), None)


def label_names(row: Row) -> list[str]:
    """The fields of a row that may have the label of its answer, in any case."""
    return [name for name in row if str(name).lower() in _LABELS]


def is_answer_label(value: Any) -> bool:
    """Whether a value says that an answer is good or bad."""
    return read_label(value) is not None


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
    label = read_label(row[name])
    for item in read(line, {key: value for key, value in row.items() if key != name}):
        yield _labelled(item, label) if isinstance(item, Example) else item


def _labelled(example: Example, label: bool | None) -> Example:
    messages = example.conversation.messages
    last = len(messages)
    while last and messages[last - 1].role == "assistant":
        last -= 1
    earlier = {place for place in range(last) if messages[place].role == "assistant"}
    return replace(example, unweighted=example.unweighted | earlier, label=label)
