"""Files and data sets as numbered raw rows: JSONL, JSON, CSV, Parquet, and Hugging Face data sets by id or folder.

It does not know the formats of rows (`formats`). A row that cannot be read becomes a Problem, and reading continues.
"""

import csv
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Invalid, NotFound, Unavailable
from train.data.conversations import Problem
from train.data.parquet import ParquetRows
from train.data.raw_rows import Raw, without_nulls

# A cell can be a whole manual; at csv's own limit of 131,072 characters reading would stop.
_CELL_LIMIT = 16 * 1024 * 1024
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?")
# How files of other kinds begin, and what they are.
_SIGNATURES = (
    (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"), (b"GIF8", "a GIF image"), (b"%PDF-", "a PDF file"),
    (b"PK\x03\x04", "a ZIP or Office file"), (b"\x1f\x8b", "a gzip file"), (b"PAR1", "a Parquet file"),
    (b"\xff\xfe", "UTF-16 text"), (b"\xfe\xff", "UTF-16 text"),
)  # fmt: skip
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Source:
    """The rows of a file, and the column names of a CSV, Parquet file or data set."""

    name: str
    rows: Iterator[Raw | Problem]
    columns: tuple[str, ...] | None = None


def open_source(data: str | Path) -> Source:
    """The raw rows of a file, a folder with a data set, or a hub data set (`owner/name` or `owner/name:split`).

    Raises:
        NotFound: there is no such file or data set. Invalid: an unknown suffix, or a file whose content does
        not match its suffix. Unavailable: the hub cannot be reached.
    """
    path = Path(data)
    if path.is_dir():
        return _data_set(str(path), "train", f"the folder {path}")
    hub = _HUB_ID.fullmatch(str(data))
    if not path.is_file():
        if hub and path.suffix.lower() not in SUFFIXES:
            return _data_set(hub["id"], hub["split"] or "train", f"the data set {hub['id']}")
        raise NotFound(f"There is no training file {path}.", param="data")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES and suffix != ".parquet":
        _check_is_text(path)
    if suffix in (".jsonl", ".ndjson"):
        return Source(path.name, _jsonl(path))
    if suffix == ".json":
        return Source(path.name, _json(path))
    if suffix in (".csv", ".tsv"):
        header = _csv_header(path, suffix)
        return Source(path.name, _csv(path, suffix, header), tuple(header))
    if suffix == ".parquet":
        parquet = ParquetRows(path)
        return Source(path.name, iter(parquet), parquet.columns)
    raise Invalid(
        f"{path.name} is not training data: use .jsonl, .json, .csv, .tsv, .parquet, or a hub data set (owner/name).",
        param="data",
    )


def _check_is_text(path: Path) -> None:
    """Raises Invalid for a file of another kind: every line of it would be a problem of its own."""
    with path.open("rb") as file:
        start = file.read(8)
    kind = next((kind for signature, kind in _SIGNATURES if start.startswith(signature)), None)
    if kind is None:
        return
    mend = "Save it as UTF-8" if kind == "UTF-16 text" else "Use .jsonl, .json, .csv, .tsv or .parquet"
    raise Invalid(f"{path.name} is not training data: it is {kind}. {mend}.", param="data")


def _jsonl(path: Path) -> Iterator[Raw | Problem]:
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if raw.strip():  # a blank line is layout, not data
                yield parse_line(line, raw)


def parse_line(line: int, raw: bytes) -> Raw | Problem:
    """One line of JSONL."""
    try:
        text = raw.decode("utf-8-sig" if line == 1 else "utf-8")
    except UnicodeDecodeError as error:
        return Problem(line, "error", f"not UTF-8 (byte {error.start})", "save the file as UTF-8", "invalid-utf8")
    try:
        return Raw(line, json.loads(text))
    except (ValueError, RecursionError) as error:  # ValueError also for a number of over 4,300 digits
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or too long"
        return Problem(line, "error", f"not JSON: {reason}", "put one JSON object on each line", "invalid-json")


def _json(path: Path) -> Iterator[Raw | Problem]:
    """A list of objects, as ShareGPT and Alpaca files are; anything else is read as JSONL."""
    content = path.read_bytes()
    if not content.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _jsonl(path)
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        yield Problem(line, "error", f"not UTF-8 (byte {error.start})", "save the file as UTF-8", "invalid-utf8")
        text = content.decode("utf-8-sig", errors="replace")
    yield from _elements(text)


def _elements(text: str) -> Iterator[Raw | Problem]:
    decoder = json.JSONDecoder()
    skip = re.compile(r"[\s,]*")
    place, line, counted = text.index("[") + 1, 1, 0
    while True:
        place = skip.match(text, place).end()  # type: ignore[union-attr]  # the pattern matches anywhere
        line, counted = line + text.count("\n", counted, place), place
        if text.startswith("]", place):
            return
        try:
            row, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply, or too long"
            # The end of a broken element is unknown.
            mend = "fix the list here; nothing after it could be read"
            yield Problem(line, "error", f"not JSON: {reason}", mend, "invalid-json")
            return
        yield Raw(line, row)


def _csv_reader(file: Any, suffix: str) -> Any:
    """A reader from the start of the file. In many locales spreadsheets separate a .csv with semicolons."""
    csv.field_size_limit(_CELL_LIMIT)
    delimiter = "\t" if suffix == ".tsv" else ","
    if suffix == ".csv":
        first = file.readline(_CELL_LIMIT)
        file.seek(0)
        if ";" in first and "," not in first:
            delimiter = ";"
    return csv.reader(file, delimiter=delimiter)


def _csv_header(path: Path, suffix: str) -> list[str]:
    # Names that are not UTF-8 are shown in errors, so they may have no halves of characters.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            return next(_csv_reader(file, suffix), [])
        except csv.Error as error:
            raise Invalid(f"{path.name} is not a CSV file: {error}.", param="data") from error


def _csv(path: Path, suffix: str, header: list[str]) -> Iterator[Raw | Problem]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = _csv_reader(file, suffix)
        next(reader, None)
        while True:
            line = reader.line_num + 1  # the first line of the row: a quoted cell may span lines
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Problem(line, "error", f"not CSV: {error}", "fix or remove this row", "invalid-csv")
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                message = f"{len(cells)} cells, but the header has {len(header)}"
                yield Problem(line, "error", message, "quote cells that contain commas", "invalid-csv")
            elif any(not cell.isascii() and _is_broken(cell) for cell in cells):
                yield Problem(line, "error", "not UTF-8", "save the file as UTF-8", "invalid-utf8")
            else:
                yield Raw(line, dict(zip(header, cells, strict=True)))


def _is_broken(cell: str) -> bool:
    """Whether the cell has bytes that are not UTF-8, read as surrogate escapes."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return True
    return False


def _data_set(name: str, split: str, label: str) -> Source:
    """A data set through the library `datasets`, which has its own download cache."""
    import datasets

    try:
        with _quiet_hub():
            rows: Any = datasets.load_dataset(name, split=split)
    except Exception as error:  # each of its loaders raises its own errors
        raise _data_set_error(error, label, split) from error
    raw = (Raw(line, without_nulls(row)) for line, row in enumerate(rows, 1))
    return Source(label, raw, tuple(rows.column_names or ()))


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """No progress bars and no warning for each retry in the block: an error is reported once, in one line."""
    from datasets.utils import disable_progress_bars, enable_progress_bars

    logger = logging.getLogger("huggingface_hub")
    before = logger.level
    logger.setLevel(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
        logger.setLevel(before)


def _data_set_error(error: Exception, label: str, split: str) -> Invalid | NotFound | Unavailable:
    names = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(str(error).split())
    if names & {"ConnectionError", "ConnectError", "OfflineModeIsEnabled", "TimeoutError", "LocalEntryNotFoundError"}:
        return Unavailable(f"There is no such file, and the hub cannot be reached for {label}: {text[:200]}")
    if "DatasetNotFoundError" in names or "FileNotFoundError" in names:
        return NotFound(f"There is neither a file nor a hub data set for {label}: {text[:200]}", param="data")
    return Invalid(f"{label[0].upper()}{label[1:]} (split {split}) cannot be read: {text[:300]}", param="data")
