"""Recognises fields that are labels and not part of the conversation, from the first rows of a data set.

A `context` with the same few words in every row, such as "customer support", belongs to no question. A `label` with a
number such as 3 in some row is a class or a rating, so that 0 and 1 in other rows do not mean bad and good.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from train.data.conversations import Problem
from train.data.labelled_rows import is_answer_label, label_names
from train.data.raw_rows import Raw
from train.data.unread_fields import UnreadField

_CONTEXT = "context"
_SAMPLE_ROWS, _FEWEST_ROWS, _MOST_WORDS = 1_000, 5, 4
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*")


def without_labels(
    rows: Iterable[Raw | Problem], keep: Sequence[str | None] = ()
) -> Iterator[Raw | Problem | UnreadField]:
    """The same rows, with these fields in the metadata, and an `UnreadField` for each row that has one.

    Args:
        rows: the rows of a data set.
        keep: fields that are part of the conversation.
    """
    rows = iter(rows)
    first = list(islice(rows, _SAMPLE_ROWS))
    sample = [item.row for item in first if isinstance(item, Raw) and isinstance(item.row, Mapping)]
    context = None if _CONTEXT in keep else _constant_context(sample)
    names = {name for row in sample for name in label_names(row)} - {*keep}
    classes = {name: value for name in names if (value := _class(sample, name)) is not None}
    for item in chain(first, rows):
        if not isinstance(item, Raw) or not isinstance(item.row, Mapping):
            yield item
            continue
        row = item.row
        labels = [name for name in classes if row.get(name) is not None]
        for name in labels:
            state = f"is a class or a rating (such as {classes[name]})"
            yield UnreadField(item.line, name, state, "for KTO, label answers with true or false")
        if context is not None and row.get(_CONTEXT) == context:
            labels.append(_CONTEXT)
            state = f'is the label "{context}" in every row'
            yield UnreadField(item.line, _CONTEXT, state, "add `context` to the questions if it belongs to them")
        yield Raw(item.line, _in_metadata(row, labels)) if labels else item


def _in_metadata(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    given = row.get("metadata")
    metadata = {name: row[name] for name in names} | (dict(given) if isinstance(given, Mapping) else {})
    if given is not None and not isinstance(given, Mapping):
        metadata["metadata"] = given
    return {name: value for name, value in row.items() if name not in names} | {"metadata": metadata}


def _constant_context(rows: Sequence[Mapping[str, Any]]) -> str | None:
    values = {value if isinstance(value, str) else None for row in rows for value in [row.get(_CONTEXT)]}
    value = next(iter(values)) if len(values) == 1 and len(rows) >= _FEWEST_ROWS else None
    if value is None or not value.strip() or len(value.split()) > _MOST_WORDS or value.strip()[-1] in ".!?:":
        return None
    return value


def _class(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """The first value of a field that is a number and no label of an answer."""
    values = (row.get(name) for row in rows)
    texts = (str(value) for value in values if isinstance(value, int | float | str) and not is_answer_label(value))
    return next((text.strip() for text in texts if _NUMBER.fullmatch(text)), None)
