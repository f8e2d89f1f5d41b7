"""Fields that are labels of their rows and belong to no conversation, as the first rows of a data set show.

A `context` with the same few words in every row, such as "customer support", is none of any question. A `label` with a
number such as 3 in some row is a class or a rating, so that 0 and 1 in other rows say neither bad nor good.
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
_LOOKED_AT, _FEWEST, _MOST_WORDS = 1_000, 5, 4
_NUMBER = re.compile(r"\s*-?\d+(?:\.\d+)?\s*")


def without_labels(
    rows: Iterable[Raw | Problem], keep: Sequence[str | None] = ()
) -> Iterator[Raw | Problem | UnreadField]:
    """The same rows, with such fields in their metadata; each row that has one also gives an `UnreadField`.

    Args:
        rows: the rows of a data set.
        keep: fields that are part of the conversation.
    """
    rows = iter(rows)
    first = list(islice(rows, _LOOKED_AT))
    known = [item.row for item in first if isinstance(item, Raw) and isinstance(item.row, Mapping)]
    context = None if _CONTEXT in keep else _constant_context(known)
    names = {name for row in known for name in label_names(row)} - {*keep}
    classes = {name: value for name in names if (value := _class(known, name)) is not None}
    for item in chain(first, rows):
        if not isinstance(item, Raw) or not isinstance(item.row, Mapping):
            yield item
            continue
        row = item.row
        labels = [name for name in classes if row.get(name) is not None]
        for name in labels:
            state = f"has values such as {classes[name]}, a class or a rating,"
            yield UnreadField(item.line, name, state, "for KTO, label answers with true or false")
        if context is not None and row.get(_CONTEXT) == context:
            labels.append(_CONTEXT)
            state = f'is "{context}" everywhere, a label,'
            yield UnreadField(item.line, _CONTEXT, state, "put `context` into the questions if it belongs to them")
        yield Raw(item.line, _in_metadata(row, labels)) if labels else item


def _in_metadata(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    given = row.get("metadata")
    metadata = {name: row[name] for name in names} | (dict(given) if isinstance(given, Mapping) else {})
    if given is not None and not isinstance(given, Mapping):
        metadata["metadata"] = given
    return {name: value for name, value in row.items() if name not in names} | {"metadata": metadata}


def _constant_context(rows: Sequence[Mapping[str, Any]]) -> str | None:
    values = {value if isinstance(value, str) else None for row in rows for value in [row.get(_CONTEXT)]}
    value = next(iter(values)) if len(values) == 1 and len(rows) >= _FEWEST else None
    if value is None or not value.strip() or len(value.split()) > _MOST_WORDS or value.strip()[-1] in ".!?:":
        return None
    return value


def _class(rows: Sequence[Mapping[str, Any]], name: str) -> str | None:
    """The first value of a field that is a number and no label of an answer."""
    values = (row.get(name) for row in rows)
    texts = (str(value) for value in values if isinstance(value, int | float | str) and not is_answer_label(value))
    return next((text.strip() for text in texts if _NUMBER.fullmatch(text)), None)
