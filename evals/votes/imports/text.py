"""The rows of a file of votes: its encoding, its separator, and JSON in its usual wrappings."""

import codecs
import csv
import io
import json
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
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16", codecs.BOM_UTF8: "utf-8-sig"}


@dataclass(frozen=True)
class Header:
    """A CSV's column names, and the character between its cells."""

    columns: tuple[str, ...]
    separator: str


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
    """The text of a file: in the encoding given, else UTF-8, or UTF-16 where the file begins with its mark.

    Raises:
        Invalid: it is not text in that encoding; the message says which encoding to try.
    """
    known = encoding or next((kind for mark, kind in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(known)
    except LookupError as error:
        raise Invalid(f"There is no encoding {encoding!r}: use utf-8, utf-16 or cp1252.", param="encoding") from error
    except UnicodeDecodeError as error:
        guess = "utf-16" if b"\0" in data[:200] else "cp1252"
        cure = f"; try --encoding {guess}" if guess != known else ""
        raise Invalid(f"{name} is not {known} text (byte {error.start}){cure}.", param="encoding") from error


def is_table(path: Path, text: str) -> bool:
    """Whether the file is a CSV, by its ending, or where that says nothing, by its first character."""
    suffix = path.suffix.lower()
    return suffix in _TABLES or (suffix not in _JSON and text.lstrip()[:1] not in ("{", "["))


def read_header(path: Path, text: str, separator: str | None, is_known: Callable[[str], bool]) -> Header:
    """The first row of a CSV, split by the separator that yields the most known columns."""
    csv.field_size_limit(_BIG_CELL)  # a process-wide limit; no other reader needs a smaller one
    usual = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    candidates = [separator] if separator else sorted(_SEPARATORS, key=lambda one: one != usual)
    headers = [
        Header(tuple(next(csv.reader(io.StringIO(text[:_HEADER], newline=""), delimiter=one), [])), one)
        for one in candidates
    ]
    return max(headers, key=lambda header: sum(map(is_known, header.columns)))


def csv_rows(text: str, header: Header) -> Iterator[tuple[int, Mapping[str, Any] | RowError]]:
    """Each row with its line; a row that has not the header's number of cells is a RowError."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=header.separator)
    next(reader, None)
    before, columns = reader.line_num, header.columns
    try:
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(columns):
                yield line, RowError(f"it does not have the {len(columns)} cells of the header")
            else:
                yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        yield before + 1, RowError(f"it is not CSV from here on ({error})")


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
            except (ValueError, RecursionError) as error:
                yield line, RowError(f"it is not JSON ({error})")


def _wrapped(text: str) -> Sequence[Any] | None:
    """The only list of objects in a file that is one JSON object; the object itself where it has none."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    lists = [value for value in whole.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) != 1 or "model_a" in whole or "states" in whole:
        return [whole]
    return [one["row"] if isinstance(one.get("row"), dict) else one for one in lists[0]]
