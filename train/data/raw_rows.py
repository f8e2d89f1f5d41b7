"""One row of a file or data set, before its format is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Raw:
    """One row of a file. `line` counts from 1: the line of a text file, or the row of a Parquet file or data set."""

    line: int
    row: Any


def without_nulls(value: Any) -> Any:
    """The value without null fields: in a table every row has all columns, used or not."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value
