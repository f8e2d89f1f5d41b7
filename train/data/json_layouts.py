"""Reads rows of JSON in any layout: one row per line, a list, rows over several lines, or inside an object.

Some invalid JSON is read too if its meaning is certain: a comma after the last value, Python's notation, JSON inside a
JSON string. Each kind gives one warning for a file.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data.conversations import Problem
from train.data.encodings import text_lines, whole_text
from train.data.formats import detect
from train.data.python_values import python_values
from train.data.raw_rows import Raw

LAYOUT = "file-layout"  # the code of a warning about how a file is written
# Fields of an object that hold the rows of a data set, as exports write them.
_WRAPPERS = (
    "data", "rows", "train", "examples", "items", "records", "dataset", "instances", "samples", "entries", "results",
)  # fmt: skip
_PROMPTS = ("system", "system_prompt", "system_message", "instruction", "prompt")
_OTHER_SPLITS = ("validation", "valid", "dev", "eval", "test")
_STRING_OR_COMMA = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|,(?=\s*(?:[}\]]|\Z))', re.DOTALL)
_BETWEEN = re.compile(r"[\s,]*")
_OPEN_ENDED = ("{", "[", ",", ":")  # the last character of a line if its JSON continues on the next line
_JSONL = "`parley data convert` writes it as JSONL"
_CURLY = "{\N{LEFT DOUBLE QUOTATION MARK}"
_CURLY_MEND = 'replace the curly quotes around names and texts with straight quotes (")'
_NOTES = {
    "comma": ("a comma after the last value, which is not valid JSON, was ignored", "remove it"),
    "python": (
        "Python's notation ('…', True, None) instead of JSON was read as Python",
        "write the rows with json.dumps",
    ),
    "double": ("JSON inside a JSON string was unpacked", "call json.dumps only once"),
    "list": ("a JSON list was read instead of one row per line", _JSONL),
    "spread": ("rows over several lines, or several on one, were read instead of one row per line", _JSONL),
    "table": ("the rows of a table in one JSON object were read", _JSONL),
}


@dataclass(frozen=True)
class _Decoded:
    """A value, and the kind of note on how it was written; None for plain JSON."""

    value: Any
    note: str | None = None


class _Notes:
    """The warnings about the layout of a file, each kind once."""

    def __init__(self) -> None:
        self._given: set[str | None] = {None}

    def once(self, kind: str | None, line: int = 0) -> Iterator[Problem]:
        if kind is not None and kind not in self._given:
            self._given.add(kind)
            yield Problem(line, "warning", *_NOTES[kind], LAYOUT)


def json_rows(path: Path, encoding: str) -> Iterator[Raw | Problem]:
    """The rows of a .jsonl or .json file. Rows of a list have the numbers of their lines, or of the rows if lines have
    several."""
    notes = _Notes()
    if _has_row_on_each_line(path, encoding):
        yield from _rows_of_lines(text_lines(path, encoding), notes)
        return
    text, problem = whole_text(path, encoding)
    if problem is not None:
        yield problem
    yield from _document(text, notes, expects_list=path.suffix.lower() == ".json")


def _has_row_on_each_line(path: Path, encoding: str) -> bool:
    """Whether the first line is a row, or a broken one, so that the file can be read line by line."""
    lines = (text for _, text in text_lines(path, encoding))
    first = next(lines, None)
    if first is None or isinstance(first, Problem):
        return True
    try:
        value = _decode(first).value
    except ValueError as error:
        # Several rows on one line, as `cat` makes of files without a last line break.
        several = getattr(error, "msg", "") == "Extra data" and _scan(first)[1] is None
        return not several and not first.rstrip().endswith(_OPEN_ENDED) and not first.lstrip().startswith("[")
    if next(lines, None) is not None:
        # A list on each line may be the turns of a row; a list of rows is a document, or the first of several.
        return not (isinstance(value, list) and value and all(detect(item) for item in value))
    return isinstance(value, Mapping) and _rows_of_object(value) is None


def _rows_of_lines(lines: Iterator[tuple[int, str | Problem]], notes: _Notes) -> Iterator[Raw | Problem]:
    for line, text in lines:
        if isinstance(text, Problem):
            yield text
            continue
        try:
            decoded = _decode(text)
        except ValueError as error:
            yield _not_json(line, error, _CURLY_MEND if _CURLY in text else "put one JSON object on each line")
        else:
            yield from notes.once(decoded.note, line)
            yield Raw(line, decoded.value)


def _document(text: str, notes: _Notes, *, expects_list: bool) -> Iterator[Raw | Problem]:
    """The rows of a text that has them in a list, over several lines, or inside one object."""
    start = text.lstrip()[:1]
    if start == '"':
        yield from _inner_document(text, notes)
        return
    rows, problem, note = _values(text)
    if start == "[":
        if rows and problem is None and all(_is_turn(row.row) for row in rows):
            rows = [Raw(1, [row.row for row in rows])]  # the file is one conversation
        elif not expects_list:
            yield from notes.once("list")
    elif len(rows) == 1 and not problem and isinstance(rows[0].row, Mapping):
        inner = _rows_of_object(rows[0].row)
        if inner is not None:
            yield from notes.once("table")
            yield from _unread_lists(rows[0].row)
            yield from _unread_prompts(rows[0].row)
            rows = [Raw(number, row) for number, row in enumerate(inner, 1)]
    elif not rows:  # the first line is broken; the others may be rows
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        yield from _rows_of_lines(lines, notes)
        return
    else:
        yield from notes.once("spread")
    yield from notes.once(note)
    yield from rows
    if problem is not None:
        yield problem


def _is_turn(row: Any) -> bool:
    return isinstance(row, Mapping) and bool({"role", "from"} & row.keys()) and detect(row) is None


def _inner_document(text: str, notes: _Notes) -> Iterator[Raw | Problem]:
    """The rows of a document that is itself one JSON text."""
    try:
        inner = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield _not_json(1, error, "put one JSON object on each line")
        return
    yield from notes.once("double")
    if inner.lstrip()[:1] in ("{", "["):
        lines = [line for line in inner.split("\n") if line.strip()]
        if len(lines) > 1 and not lines[0].rstrip().endswith(_OPEN_ENDED):
            yield from _rows_of_lines(((number, line) for number, line in enumerate(lines, 1)), notes)
        else:
            yield from _document(inner, notes, expects_list=True)
        return
    yield Raw(1, inner)


def _values(text: str) -> tuple[list[Raw], Problem | None, str | None]:
    """The values of a list, or one after another; the problem that ended them; and how they are written."""
    rows, problem = _scan(text)
    if problem is None:
        return _numbered(rows), None, None
    cleaned = _without_last_commas(text)
    if cleaned != text:
        again, still = _scan(cleaned)
        if still is None:
            return _numbered(again), None, "comma"
    if (values := python_values(text)) is not None:
        return _numbered(values), None, "python"
    return _numbered(rows), problem, None


def _scan(text: str) -> tuple[list[Raw], Problem | None]:
    decoder = json.JSONDecoder()
    rows: list[Raw] = []
    place = len(text) - len(text.lstrip())
    is_list = text.startswith("[", place)
    place, line, counted = place + is_list, 1, 0
    while True:
        place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]  # the pattern matches anywhere
        line, counted = line + text.count("\n", counted, place), place
        if place == len(text) and not is_list:
            return rows, None
        if is_list and text.startswith("]", place):
            place = _BETWEEN.match(text, place + 1).end()  # type: ignore[union-attr]  # as above
            if place == len(text):
                return rows, None
            if not text.startswith("[", place):  # another list may follow, as two exports in one file
                line += text.count("\n", counted, place)
                mend = "fix this line; nothing after it was read"
                return rows, Problem(line, "error", "text after the end of the list", mend, "invalid-json")
            place += 1
            continue
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            # The end of a broken value is unknown.
            return rows, _not_json(line, error, "fix this line; nothing after it was read")
        rows.append(Raw(line, row))


def _numbered(rows: list[Raw]) -> list[Raw]:
    """The same rows; with the numbers of the rows if two begin on one line, because a number stands for one row."""
    if len({row.line for row in rows}) == len(rows):
        return rows
    return [Raw(number, row.row) for number, row in enumerate(rows, 1)]


def _decode(text: str) -> _Decoded:
    """One value of JSON, or of invalid JSON whose meaning is certain.

    Raises:
        ValueError: the text is neither.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for a number of over 4,300 digits
        return _decode_nearly(text, error)
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return _Decoded(json.loads(value), "double")
        except (ValueError, RecursionError):
            pass
    return _Decoded(value)


def _decode_nearly(text: str, error: Exception) -> _Decoded:
    cleaned = _without_last_commas(text)
    if cleaned != text:
        try:
            return _Decoded(json.loads(cleaned), "comma")
        except (ValueError, RecursionError):
            pass
    values = python_values(text)
    if values is not None and len(values) == 1 and text.lstrip().startswith("{"):
        return _Decoded(values[0].row, "python")
    raise error if isinstance(error, ValueError) else ValueError(str(error)) from error


def _without_last_commas(text: str) -> str:
    """The text without commas before a closing bracket or at the end, outside of strings."""
    return _STRING_OR_COMMA.sub(lambda match: "" if match.group() == "," else match.group(), text)


def _rows_of_object(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of a data set that was exported as one object; None for any other object."""
    if (table := _rows_of_table(value)) is not None:
        return table
    if (rows := _rows_of_columns(value)) is not None:
        return rows
    if detect(value):  # a row, which may have a field of one of these names
        return None
    lists = [name for name, rows in value.items() if _is_list_of_rows(rows)]
    single = lists if len(lists) == 1 and detect(value[lists[0]][0]) else []  # a list of rows of any other name
    for name in (*_WRAPPERS, *single):
        rows = value.get(name)
        if isinstance(rows, list) and rows:
            if _is_list_of_rows(rows):
                return [row["row"] if isinstance(row.get("row"), Mapping) else row for row in rows]
            names = value.get("columns")
            if isinstance(names, list) and all(isinstance(row, list) and len(row) == len(names) for row in rows):
                return [dict(zip(map(str, names), row, strict=True)) for row in rows]
    return None


def _unread_lists(value: Mapping[str, Any]) -> Iterator[Problem]:
    """A warning if an object has several lists of rows, such as the splits of a data set: one is read."""
    names = [name for name in (*_WRAPPERS, *_OTHER_SPLITS) if _is_list_of_rows(value.get(name))]
    if len(names) > 1:
        message = (
            f"only the list `{names[0]}` of the object was read, not {', '.join(f'`{name}`' for name in names[1:])}"
        )
        yield Problem(0, "warning", message, "save each list as a separate file", LAYOUT)


def _unread_prompts(value: Mapping[str, Any]) -> Iterator[Problem]:
    """A warning if an object has a system message or an instruction beside its rows."""
    for name in _PROMPTS:
        if isinstance(value.get(name), str) and value[name].strip() and any(map(_is_list_of_rows, value.values())):
            message = f"`{name}` beside the rows was not read"
            yield Problem(0, "warning", message, "give it as --system, or put it into the rows", LAYOUT)


def _is_list_of_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _rows_of_table(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of a data frame by columns or by index, as pandas writes it."""
    parts = list(value.values())
    if not parts or not all(isinstance(part, Mapping) and part for part in parts):
        return None
    if all(str(key).isdigit() for key in value) or all(detect(part) for part in parts):
        return parts
    index = list(parts[0])
    if all(str(key).isdigit() for key in index) and all(part.keys() == parts[0].keys() for part in parts):
        return [{name: column[key] for name, column in value.items()} for key in index]
    return None


def _rows_of_columns(value: Mapping[str, Any]) -> list[Any] | None:
    """The rows of an object whose fields are columns, each a list of as many texts, as `datasets` writes it."""
    columns = list(value.values())
    lists = bool(columns) and all(isinstance(column, list) and column for column in columns)
    if not lists or len({len(column) for column in columns}) != 1:
        return None
    rows = [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    known = detect(rows[0])
    texts = sum(all(isinstance(cell, str) for cell in column) for column in columns)
    return rows if known is not None and texts > 1 else None


def _not_json(line: int, error: Exception, mend: str) -> Problem:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or too long"
    return Problem(line, "error", f"not JSON: {reason}", mend, "invalid-json")
