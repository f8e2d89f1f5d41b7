"""The rows of a file of votes: encoding, separator, and the usual forms of JSON."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.votes.imports.rows import RowError
from models.errors import Invalid, NotFound

_BIG_CELL = 2**27  # characters of an answer in a CSV; Python's own limit is 131,072
_HEADER = 2**16  # characters in which a header ends
_SEPARATORS = (",", ";", "\t", "|")
_TABLES, _JSON = (".csv", ".tsv", ".tab"), (".json", ".jsonl", ".ndjson")
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel file or another archive: save the table as CSV",
    b"PAR1": "a Parquet file: write it as JSONL, such as with pandas' to_json(path, orient='records', lines=True)",
    b"\x1f\x8b": "compressed: unpack it",
}
_EXCEL_SEPARATOR = re.compile(r"sep=(.)\r?\n")  # a first line of Excel's
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


@dataclass(frozen=True)
class Header:
    """A CSV's column names, and the character between its cells."""

    columns: tuple[str, ...]
    separator: str
    lines: int = 0  # before it


def read_bytes(path: Path) -> bytes:
    """A file's content.

    Raises:
        NotFound: there is no such file.
        Invalid: it is a folder, or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.") from error
    except IsADirectoryError as error:
        raise Invalid(f"{path} is a folder: name a file.", param="file") from error
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.", param="file") from error


def decode(data: bytes, name: str, encoding: str | None) -> str:
    """The text of a file: in the encoding given, else UTF-8, or UTF-16 if the file begins with a byte order mark.

    Raises:
        Invalid: it is empty, or is not text in that encoding; the message says what to do.
    """
    for mark, kind in _OTHER_FILES.items():
        if data.startswith(mark):
            raise Invalid(f"{name} is {kind}.", param="file")
    known = encoding or next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(known)
    except LookupError as error:
        raise Invalid(
            f"{encoding!r} is not a known encoding: use one such as utf-8, utf-16 or cp1252.", param="encoding"
        ) from error
    except UnicodeDecodeError as error:
        guess = "utf-16" if b"\0" in data[:200] else "cp1252"
        cure = f"; try --encoding {guess}" if guess != known else ""
        raise Invalid(f"{name} is not {known} text (byte {error.start}){cure}.", param="encoding") from error
    if not text.strip():
        raise Invalid(f"{name} is empty.", param="file")
    return text


def is_table(path: Path, text: str) -> bool:
    """Whether the file is a CSV: by its ending, or if that is unknown, by its first character."""
    suffix = path.suffix.lower()
    return suffix in _TABLES or (suffix not in _JSON and text.lstrip()[:1] not in ("{", "["))


def read_header(path: Path, text: str, separator: str | None, is_known: Callable[[str], bool]) -> Header:
    """The first row of a CSV, split by the separator that yields the most known columns.

    "Model A" is read as model_a. Excel's line "sep=;" before it names the separator.

    Raises:
        Invalid: two columns have the same known name.
    """
    csv.field_size_limit(_BIG_CELL)  # a process-wide limit; no other reader needs a smaller one
    lines = 0
    if excel := _EXCEL_SEPARATOR.match(text):
        separator, text, lines = separator or excel[1], text[excel.end() :], 1
    usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    candidates = [separator] if separator else sorted(_SEPARATORS, key=lambda candidate: candidate != usual)
    headers = [
        Header(tuple(_column(name, is_known) for name in _first_row(text[:_HEADER], candidate)), candidate, lines)
        for candidate in candidates
    ]
    header = max(headers, key=lambda header: sum(map(is_known, header.columns)))
    twice = [name for name, times in Counter(header.columns).items() if times > 1 and is_known(name)]
    if twice:
        raise Invalid(f"{path.name} has two columns {twice[0]!r}: rename one of them.", param="file")
    return header


def _first_row(text: str, separator: str) -> list[str]:
    return next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])


def _column(name: str, is_known: Callable[[str], bool]) -> str:
    """A column's name; in our spelling if that is known."""
    usual = re.sub(r"[\s-]+", "_", name.strip().lower())
    return name if is_known(name) or not is_known(usual) else usual


def csv_rows(text: str, header: Header) -> Iterator[tuple[int, Mapping[str, Any] | RowError]]:
    """Each row with its line; a row with another number of cells than the header is a RowError."""
    for _ in range(header.lines):
        text = text[text.index("\n") + 1 :]
    open_quote = text.count('"') % 2 == 1
    end = text.count("\n", 0, len(text.rstrip("\r\n"))) + 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.separator)
    next(reader, None)
    before, columns = reader.line_num, header.columns
    try:
        for cells in reader:
            line, before = before + 1 + header.lines, reader.line_num
            if not cells:
                continue
            if open_quote and reader.line_num >= end and line < reader.line_num + header.lines:
                yield line, RowError('a quotation mark (") opens here and is not closed, so the rest is not read')
            elif len(cells) != len(columns):
                yield line, RowError(f"it does not have {len(columns)} cells as the header has")
            else:
                yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        yield before + 1 + header.lines, RowError(f"it is not CSV from here on ({error})")


def json_rows(text: str) -> Iterator[tuple[int, Any]]:
    """The objects of a JSON list, of an object that wraps one, or of lines; a line that is not JSON is a RowError."""
    start = text.lstrip()[:1]
    if start == "[":
        try:
            yield from enumerate(json.loads(text), start=1)
        except (ValueError, RecursionError) as error:
            raise Invalid(f"The file is not JSON: {error}.", param="file") from error
        return
    if start == "{" and (wrapped := _wrapped(text)) is not None:
        yield from enumerate(wrapped, start=1)
        return
    # Not splitlines(), which also splits at U+2028 and U+0085, which a JSON string may contain.
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            try:
                yield line, json.loads(content)
            except json.JSONDecodeError as error:
                yield line, RowError(f"it is not JSON ({error})")
            except (ValueError, RecursionError):  # over 4,300 digits; over a thousand levels
                yield line, RowError("it contains a number that is too long, or is nested too deeply")


def _wrapped(text: str) -> Sequence[Any] | None:
    """The only list of objects in a file that is one JSON object; the object itself if it has none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    columns = [value for value in whole.values() if isinstance(value, list | dict) and len(value) > 0]
    if len(columns) == len(whole) > 2 and len({(type(value), len(value)) for value in columns}) == 1:
        raise Invalid(
            "The file has one list for each column: write one object for each row, such as with pandas' "
            "to_json(path, orient='records', lines=True).",
            param="file",
        )
    if len(lists) != 1 or "model_a" in whole or "states" in whole or "games" in whole or "annotations" in whole:
        return [whole]
    return [item["row"] if isinstance(item.get("row"), dict) else item for item in lists[0]]
