"""Reads training data of any known file type and format into examples, preference pairs and problems, line by line.

The format is detected from the first rows; a row of another format is read as such, with a warning. A broken line does
not stop the others. Whether a conversation can be trained on is checked in `checks`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.data.conversations import Example, Preference, Problem
from train.data.files import Source, open_source
from train.data.formats import Format, columns_items, detect, formats, names, with_system
from train.data.label_fields import without_labels
from train.data.openai_rows import Items
from train.data.preference_rows import REJECTED
from train.data.python_values import cell_value
from train.data.raw_rows import Raw
from train.data.role_texts import (
    SEPARATORS,
    TEXT_FIELDS,
    RoleText,
    conversations_of,
    open_role_text,
    style_names,
)
from train.data.row_fields import RowError
from train.data.system_messages import fold_later
from train.data.tables import fold_name, named_columns
from train.data.turn_rows import TURNS
from train.data.unread_fields import UnreadField, count_unread

COLUMNS = "columns"  # the format name of a table read by its column names
# Fields that are lists in JSON; a CSV column has the text of the list.
_LISTS = ("messages", *TURNS, "preferred_output", "non_preferred_output")


@dataclass(frozen=True)
class Columns:
    """How a file is read: the column names of a table, a system text, and the encoding.

    `system` is a system message for conversations without one, in any format. `encoding` is that of a text file; UTF-8
    by default. `fold_system`: fold system messages after the first message into user turns. `separator`: what begins a
    new conversation in a file of plain text (`role_texts.SEPARATORS`).
    """

    prompt: str = "prompt"
    response: str = "response"
    system_column: str | None = None
    system: str | None = None
    encoding: str | None = None
    fold_system: bool = False
    separator: str = "auto"


@dataclass
class Reading:
    """A file that is being read. Iterate it once; after that `format` and `lines` (rows read) are set."""

    items: Iterator[Example | Preference | Problem]
    name: str
    format: str | None = None
    lines: int = 0

    def __iter__(self) -> Iterator[Example | Preference | Problem]:
        return self.items


@dataclass
class _RowReader:
    """How the rows of one file are read, and the styles that a warning has already named."""

    reading: Reading
    system: str | None = None
    forced: Format | None = None
    style: str | None = None
    separator: str = "auto"
    warned: set[str] = field(default_factory=set)


def format_names() -> tuple[str, ...]:
    """All values of `--format` but `auto`: the formats of rows, and the styles of texts with roles in them."""
    return (*names(), *style_names())


def read(data: str | Path, columns: Columns | None = None, format: str = "auto") -> Reading:  # noqa: A002 -- as the flag
    """The examples, preference pairs and problems of a file or data set, in its order.

    Args:
        data: a file with one of the `TRAINING_SUFFIXES`; a folder with a data set; or a hub data set, `owner/name`.
        columns: for tables, the columns; `columns.system` is added to conversations without a system message.
        format: one of `format_names()`, or "auto" to detect it.

    Raises:
        NotFound: there is no such file or data set. Invalid: an unknown suffix, encoding or format, a file of another
        kind, or a table without the columns. Unavailable: the hub cannot be reached.
    """
    columns = columns or Columns()
    if format not in ("auto", *format_names()):
        raise Invalid(f"There is no format {format!r}: use auto, {', '.join(format_names())}.", param="format")
    if columns.separator not in SEPARATORS:
        raise Invalid(f"There is no separator {columns.separator!r}: use {', '.join(SEPARATORS)}.", param="separator")
    source = open_source(data, columns.encoding)
    reading = Reading(iter(()), source.name)
    if source.columns is not None and format == "auto" and (table_columns := _table_columns(source, columns)):
        reading.format = COLUMNS
        reading.items = count_unread(_from_columns(source, table_columns, reading))
    else:
        forced = next((known for known in formats() if known.name == format), None)
        style = format if format in style_names() else None
        reader = _RowReader(reading, columns.system, forced, style, columns.separator)
        items = _from_text(source, reader) if source.is_text else _from_rows(source.rows, reader)
        reading.items = count_unread(items)
    if columns.fold_system:
        reading.items = fold_later(reading.items)
    return reading


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[Example | Preference | Problem]:
    """The same for rows of any known format in memory."""
    reader = _RowReader(Reading(iter(()), "memory"))
    return count_unread(_from_rows((Raw(line, row) for line, row in enumerate(rows, 1)), reader))


def row_reader() -> Callable[[int, Any], Items]:
    """Reads single rows of one data set in memory, with their unread fields, which `count_unread` counts."""
    reader = _RowReader(Reading(iter(()), "memory"))
    return lambda line, row: _from_rows([Raw(line, row)], reader)


def _table_columns(source: Source, columns: Columns) -> Columns | None:
    """The named columns, as the table spells them; None if no column was named and the table has a known format."""
    header = source.columns or ()
    wanted = {"prompt": columns.prompt, "response": columns.response}
    if columns.system_column:
        wanted["system"] = columns.system_column
    actual = named_columns(header, tuple(wanted.values()))
    missing = {part: name for part, name in wanted.items() if name not in actual}
    named = (columns.prompt, columns.response, columns.system_column) != (Columns.prompt, Columns.response, None)
    folded = {fold_name(name) for name in header}
    if not named and folded & {*REJECTED[1:]}:  # `rejected` alone may be a flag
        return None
    if not missing:
        system = actual[columns.system_column] if columns.system_column else None
        return replace(columns, prompt=actual[columns.prompt], response=actual[columns.response], system_column=system)
    if not named and (detect({name: [] for name in folded}) or folded & {*TEXT_FIELDS}):
        return None
    part, name = next(iter(missing.items()))
    if len(header) < 2:
        shown = f"is {header[0][:80]!r}" if header else "has no cells"
        raise Invalid(
            f"{source.name} is not a table with a question and an answer: its first row {shown}. Write the names of "
            "the columns there, separated by a comma, a semicolon, a tab or |.",
            param="data",
        )
    raise Invalid(
        f"{source.name} has no column {name!r} for the {part}; it has {', '.join(header) or 'none'}. "
        f"Name it with --{part}-column; the first row must have the names.",
        param="data",
    )


def _from_columns(source: Source, columns: Columns, reading: Reading) -> Items:
    names = (columns.prompt, columns.response, columns.system_column)
    # The usual names in any spelling, beside which other names are usual too.
    whole = (fold_name(names[0]), fold_name(names[1]), names[2]) == (Columns.prompt, Columns.response, None)
    for item in without_labels(source.rows, names):
        if isinstance(item, UnreadField):
            yield item
            continue
        if isinstance(item, Problem):
            reading.lines += item.severity == "error"  # a warning is about the file, and its rows follow
            yield item
            continue
        reading.lines += 1
        try:
            for read_item in columns_items(item.line, item.row, *names, whole=whole):
                yield _with_system(read_item, columns.system)
        except RowError as error:
            yield error.at(item.line)
        except RecursionError:
            yield _too_deep(item.line)


def _from_text(source: Source, reader: _RowReader) -> Items:
    """The conversations of a file of plain text, numbered from 1."""
    number, guessed = 0, False
    for item in source.rows:
        if isinstance(item, Problem):
            yield item
            continue
        for conversation in conversations_of(item.row, reader.style, reader.separator):
            number += 1
            if conversation is not None and conversation.guess and not guessed:
                guessed = True
                yield _separator_warning(conversation)
            if conversation is None:
                mend = f"begin each turn with a name, such as `User:`, or give its --format: {', '.join(style_names())}"
                reader.reading.lines += 1
                yield Problem(number, "error", "no known roles in this text", mend, "wrong-type")
                continue
            row = Raw(number, {"messages": list(conversation.messages)})
            yield from _style_warning(number, conversation.style, reader)
            yield from _from_rows([row], reader)
    reader.reading.format = reader.style or next(iter(reader.warned), None)


def _separator_warning(first: RoleText) -> Problem:
    """The warning that the beginnings of a text's conversations were guessed."""
    if first.guess == "blank-line":
        message = "an empty line before a question was read as the beginning of a new conversation"
        mend = "--separator blank-line confirms this; --separator rule reads the text as one conversation"
    else:
        questions = sum(message["role"] == "user" for message in first.messages)
        message = f"the text was read as one conversation of {questions:,} questions"
        mend = "--separator pair makes each question a conversation; --separator rule confirms that it is one"
    return Problem(0, "warning", message, mend, "guessed-conversations")


def _from_rows(rows: Iterable[Raw | Problem], reader: _RowReader) -> Items:
    reading, forced = reader.reading, reader.forced
    reading.format = reader.style or (forced.name if forced else None)
    usual = forced
    for item in without_labels(rows):
        if isinstance(item, UnreadField):
            yield item
            continue
        if isinstance(item, Problem):
            reading.lines += item.severity == "error"  # a warning is about the file, and its rows follow
            yield item
            continue
        reading.lines += 1
        row = _opened(item.row)
        if forced is None and isinstance(row, Mapping):
            opened = open_role_text(row, reader.style, detect(row) is not None)
            if opened is not None:
                row, style = opened
                yield from _style_warning(item.line, style, reader)
        detected = forced or detect(row)
        if usual is None and detected is not None:
            usual = detected
            reading.format = reading.format or next(iter(reader.warned), detected.name)
        elif detected is not None and usual is not None and detected.name != usual.name:
            message = f"this line is {detected.name}, but the file starts with {usual.name}"
            yield Problem(item.line, "warning", message, "use one format in a file", "mixed-formats")
        yield from _read_row(item.line, row, detected or usual, reader.system)


def _style_warning(line: int, style: str, reader: _RowReader) -> Iterator[Problem]:
    """A warning that the style was guessed, once for each style."""
    if reader.style is None and style not in reader.warned:
        reader.warned.add(style)
        message = f"the text contains roles and was read as {style}"
        mend = f"check some rows with `parley data convert`; --format {style} confirms the style"
        yield Problem(line, "warning", message, mend, "guessed-roles")


def _read_row(line: int, row: Any, row_format: Format | None, system: str | None) -> Items:
    if not isinstance(row, Mapping):
        yield Problem(line, "error", "not a JSON object", 'write {"messages": […]} on each line', "wrong-type")
        return
    if row_format is None:
        yield Problem(line, "error", *_unknown_format(row), "wrong-type")
        return
    try:
        for item in row_format.read(line, row):
            yield _with_system(item, system)
    except RowError as error:
        yield error.at(line)
    except RecursionError:
        yield _too_deep(line)


def _unknown_format(row: Mapping[str, Any]) -> tuple[str, str]:
    """What is wrong with a row of an unknown format, and what to do."""
    if isinstance(row.get("text"), str):
        mend = "write the question and the answer as messages, or begin each turn with a name, such as `User:`"
        return "`text` has no roles, so there is no answer to train on", mend
    if isinstance(row.get("segments"), list):
        mend = 'write {"messages": [{"role": …, "content": …}, …]}, with "weight": 0 for answers without loss'
        return "`segments` have no roles", mend
    several = next((name for name in ("completions", "responses", "answers") if isinstance(row.get(name), list)), None)
    if several:
        mend = "write the best one as `chosen` and a worse one as `rejected`, or one answer in each row"
        return f"`{several}` has several answers to one question", mend
    return "unknown format, and no `messages` list", 'write {"messages": [{"role": …, "content": …}, …]}'


def _with_system(item: Any, system: str | None) -> Any:
    return with_system(item, system) if isinstance(item, Example | Preference) else item


def _too_deep(line: int) -> Problem:
    mend = "remove the nested part, or store it as text"
    return Problem(line, "error", "the row is nested too deeply", mend, "wrong-type")


def _opened(row: Any) -> Any:
    """The row as the formats know it: a list of messages as an object, known names in lower case, lists parsed."""
    turns = row if isinstance(row, list) else []
    if turns and all(isinstance(turn, Mapping) and {"role", "from"} & turn.keys() for turn in turns):
        return {"messages": turns} if "role" in turns[0] else {"conversations": turns}
    if not isinstance(row, Mapping):
        return row
    row = _without_nan(row)
    if detect(row) is None:
        folded = {fold_name(str(name)): value for name, value in row.items()}
        row = folded if len(folded) == len(row) and (detect(folded) or folded.keys() & {*TEXT_FIELDS}) else row
    lists = (*_LISTS, "input") if "preferred_output" in row else _LISTS  # in other formats `input` is plain text
    texts = [name for name in lists if isinstance(row.get(name), str) and row[name].lstrip()[:1] in ("[", "{")]
    if not texts:
        return row
    opened = dict(row)
    for name in texts:
        try:
            opened[name] = cell_value(opened[name])
        except ValueError:
            continue  # it stays text, and its format reports the error
    return opened


def _without_nan(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with None for NaN, which pandas writes for an empty cell."""
    empty = [name for name, value in row.items() if isinstance(value, float) and math.isnan(value)]
    return {**row, **dict.fromkeys(empty)} if empty else row
