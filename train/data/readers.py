"""Reads training data of any known file type and format into examples, preference pairs and problems, line by line.

The format is detected from the first rows; a row of another format is read as such, with a warning. A broken line does
not stop the others. Whether a conversation can be trained on is checked in `checks`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.data.conversations import Example, Preference, Problem
from train.data.files import Source, open_source
from train.data.formats import Format, columns_example, detect, formats, names, with_system
from train.data.openai_rows import RowError
from train.data.raw_rows import Raw
from train.data.system_messages import fold_later

COLUMNS = "columns"  # the format name of a table read by its column names
# Fields that are lists in JSON; a CSV column has the text of the list.
_LISTS = ("messages", "conversations", "turns", "preferred_output", "non_preferred_output")


@dataclass(frozen=True)
class Columns:
    """The column names of a CSV, Parquet file or data set. `system` is a system message for conversations without one,
    in any format. `fold_system`: fold system messages after the first message into user turns."""

    prompt: str = "prompt"
    response: str = "response"
    system_column: str | None = None
    system: str | None = None
    fold_system: bool = False


@dataclass
class Reading:
    """A file that is being read. Iterate it once; after that `format` and `lines` (rows read) are set."""

    items: Iterator[Example | Preference | Problem]
    name: str
    format: str | None = None
    lines: int = 0

    def __iter__(self) -> Iterator[Example | Preference | Problem]:
        return self.items


def read(data: str | Path, columns: Columns | None = None, format: str = "auto") -> Reading:  # noqa: A002 -- as the flag
    """The examples, preference pairs and problems of a file or data set, in its order.

    Args:
        data: .jsonl, .json, .csv, .tsv or .parquet; a folder with a data set; or a hub data set, `owner/name`.
        columns: for tables, the columns; `columns.system` is added to conversations without a system message.
        format: one of `formats.names()`, or "auto" to detect it.

    Raises:
        NotFound: there is no such file or data set. Invalid: an unknown suffix or format, or a table without the
        columns. Unavailable: the hub cannot be reached.
    """
    source = open_source(data)
    columns = columns or Columns()
    reading = Reading(iter(()), source.name)
    if format not in ("auto", *names()):
        raise Invalid(f"There is no format {format!r}: use auto, {', '.join(names())}.", param="format")
    if source.columns is not None and format == "auto" and _by_columns(source, columns):
        reading.format = COLUMNS
        reading.items = _from_columns(source, columns, reading)
    else:
        forced = next((known for known in formats() if known.name == format), None)
        reading.items = _from_rows(source.rows, columns.system, forced, reading)
    if columns.fold_system:
        reading.items = fold_later(reading.items)
    return reading


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Example | Preference | Problem]:
    """The same for rows of any known format in memory."""
    return _from_rows((Raw(line, row) for line, row in enumerate(rows, 1)), None, None, Reading(iter(()), "memory"))


def _by_columns(source: Source, columns: Columns) -> bool:
    """Whether the table has the named columns; without named columns it may have a known format instead."""
    header = source.columns or ()
    wanted = {"prompt": columns.prompt, "response": columns.response}
    if columns.system_column:
        wanted["system"] = columns.system_column
    missing = {part: name for part, name in wanted.items() if name not in header}
    if not missing:
        return True
    named = (columns.prompt, columns.response, columns.system_column) != (Columns.prompt, Columns.response, None)
    if not named and detect({name: [] for name in header}):
        return False
    part, name = next(iter(missing.items()))
    raise Invalid(
        f"{source.name} has no column {name!r} for the {part}; it has {', '.join(header) or 'none'}. "
        f"Name it with --{part}-column.",
        param="data",
    )


def _from_columns(source: Source, columns: Columns, reading: Reading) -> Iterator[Example | Preference | Problem]:
    for item in source.rows:
        reading.lines += 1
        if isinstance(item, Problem):
            yield item
            continue
        try:
            example = columns_example(item.line, item.row, columns.prompt, columns.response, columns.system_column)
        except RowError as error:
            yield error.at(item.line)
        else:
            yield with_system(example, columns.system)


def _from_rows(
    rows: Iterable[Raw | Problem], system: str | None, forced: Format | None, reading: Reading
) -> Iterator[Example | Preference | Problem]:
    reading.format = forced.name if forced else None
    usual = forced
    for item in rows:
        reading.lines += 1
        if isinstance(item, Problem):
            yield item
            continue
        row = _opened(item.row)
        own = forced or detect(row)
        if usual is None and own is not None:
            usual, reading.format = own, own.name
        elif own is not None and usual is not None and own.name != usual.name:
            message = f"this line is {own.name}, but the file starts with {usual.name}"
            yield Problem(item.line, "warning", message, "use one format in a file", "mixed-formats")
        yield from _read_row(item.line, row, own or usual, system)


def _read_row(line: int, row: Any, own: Format | None, system: str | None) -> Iterator[Example | Preference | Problem]:
    if not isinstance(row, Mapping):
        yield Problem(line, "error", "not a JSON object", 'write {"messages": […]} on each line', "wrong-type")
        return
    if own is None:
        mend = 'write {"messages": [{"role": …, "content": …}, …]}'
        yield Problem(line, "error", "neither a list `messages` nor another known format", mend, "wrong-type")
        return
    try:
        for item in own.read(line, row):
            yield with_system(item, system) if isinstance(item, Example) else item
    except RowError as error:
        yield error.at(line)


def _opened(row: Any) -> Any:
    """The row, with lists that a table has as JSON text parsed."""
    if not isinstance(row, Mapping):
        return row
    lists = (*_LISTS, "input") if "preferred_output" in row else _LISTS  # in other formats `input` is plain text
    texts = [name for name in lists if isinstance(row.get(name), str) and row[name].lstrip()[:1] in ("[", "{")]
    if not texts:
        return row
    opened = dict(row)
    for name in texts:
        try:
            opened[name] = json.loads(opened[name])
        except (ValueError, RecursionError):
            continue  # it stays text, and its format reports the error
    return opened
