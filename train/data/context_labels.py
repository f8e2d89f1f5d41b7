"""Recognises a `context` that is a label: the same few words in every row, such as "customer support"."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from train.data.conversations import Problem
from train.data.raw_rows import Raw
from train.data.unread_fields import UnreadField

_FIELD = "context"
_SAMPLE_ROWS, _FEWEST_ROWS, _MOST_WORDS = 50, 5, 4


def without_context_labels(rows: Iterable[Raw | Problem]) -> Iterator[Raw | Problem | UnreadField]:
    """The same rows. If the first rows all have the same few words as context, they are moved to the metadata, with an
    `UnreadField` for each row.
    """
    rows = iter(rows)
    first = list(islice(rows, _SAMPLE_ROWS))
    label = _label([item.row for item in first if isinstance(item, Raw) and isinstance(item.row, Mapping)])
    for item in chain(first, rows):
        row = item.row if isinstance(item, Raw) else None
        if label is None or not isinstance(row, Mapping) or row.get(_FIELD) != label:
            yield item
            continue
        state, mend = f'is the label "{label}" in every row', f"add `{_FIELD}` to the questions if it belongs to them"
        yield UnreadField(item.line, _FIELD, state, mend)
        metadata = row.get("metadata")
        metadata = {_FIELD: label, **(metadata if isinstance(metadata, Mapping) else {})}
        yield Raw(item.line, {name: row[name] for name in row if name != _FIELD} | {"metadata": metadata})


def _label(rows: list[Mapping[str, Any]]) -> str | None:
    values = {value for row in rows if isinstance(value := row.get(_FIELD), str)}
    if len(rows) < _FEWEST_ROWS or len(values) != 1 or not all(_FIELD in row for row in rows):
        return None
    (value,) = values
    return value if value.strip() and len(value.split()) <= _MOST_WORDS and value.strip()[-1] not in ".!?:" else None
