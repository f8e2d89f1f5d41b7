"""Files and data sets as numbered raw rows: JSONL, JSON, CSV, Excel, Parquet, plain text, and Hugging Face data sets.

The reader is chosen by the content if that is certain, otherwise by the suffix. The formats of rows are in `formats`. A
row that cannot be read becomes a Problem, and reading continues.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.errors import Invalid, NotFound
from models.files.file_kinds import HEAD_BYTES, TRAINING_SUFFIXES, refuse_foreign_file
from train.data.conversations import Problem
from train.data.data_sets import data_set_rows, is_saved_data_set, saved_rows
from train.data.encodings import UTF8, check_encoding, whole_text
from train.data.json_layouts import json_rows
from train.data.parquet import ParquetRows
from train.data.raw_rows import Raw
from train.data.tables import CsvRows, ExcelRows, is_workbook

_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(?::(?P<split>[\w.-]+))?")
_JSON_START = re.compile(rb"\s*(?:\{|\[\s*(?:[\[{\"'\]]|\Z))")  # not [INST]
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# Suffixes of other files, and what to do instead.
_OTHER_SUFFIXES = {
    ".arrow": "give the folder that `Dataset.save_to_disk` wrote",
    ".pkl": "save it as .jsonl; Parley loads no pickles",
    ".md": "rename it to .txt if its lines name the roles",
}


@dataclass(frozen=True)
class Source:
    """The rows of a file, and the column names of a table or data set. The rows of a `text` are whole documents."""

    name: str
    rows: Iterator[Raw | Problem]
    columns: tuple[str, ...] | None = None
    is_text: bool = False


def open_source(data: str | Path, encoding: str | None = None) -> Source:
    """The raw rows of a file, a folder with a data set, or a hub data set (`owner/name` or `owner/name:split`).

    Args:
        encoding: of a text file; UTF-8 by default.

    Raises:
        NotFound: there is no such file or data set. Invalid: an unknown suffix or encoding, an empty file, or one whose
        content is of another kind. Unavailable: the hub cannot be reached.
    """
    encoding = check_encoding(encoding)
    path = Path(data)
    if path.is_dir():
        label = f"the folder {path}"
        return Source(label, *(saved_rows(path) if is_saved_data_set(path) else data_set_rows(str(path), None, label)))
    hub = _HUB_ID.fullmatch(str(data))
    suffix = path.suffix.lower()
    if not path.is_file():
        if hub and suffix not in TRAINING_SUFFIXES:
            label = f"the data set {hub['id']}"
            return Source(label, *data_set_rows(hub["id"], hub["split"], label))
        raise NotFound(f"There is no training file {path}.", param="data")
    if suffix not in TRAINING_SUFFIXES:
        _refuse_suffix(path)
    return _open_file(path, suffix, encoding)


def _open_file(path: Path, suffix: str, encoding: str) -> Source:
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
    if start in (b"", *_BYTE_ORDER_MARKS):
        raise Invalid(f"{path.name} is empty: give a file with rows.", param="data")
    if suffix == ".parquet" or start.startswith(b"PAR1"):
        parquet = ParquetRows(path)
        return Source(path.name, iter(parquet), parquet.columns)
    if start.startswith(b"PK\x03\x04") and is_workbook(path):
        sheet = ExcelRows(path)
        return Source(path.name, iter(sheet), sheet.columns)
    if encoding == UTF8:
        refuse_foreign_file(path.name, start)
    if suffix == ".xlsx":
        raise Invalid(f"{path.name} is not an Excel workbook: save it again as .xlsx or .csv.", param="data")
    if suffix in (".csv", ".tsv"):
        table = CsvRows(path, encoding)
        return Source(path.name, iter(table), table.columns)
    if suffix == ".txt" and not _JSON_START.match(start.removeprefix(_BYTE_ORDER_MARKS[0])):
        return Source(path.name, _text(path, encoding), is_text=True)
    return Source(path.name, json_rows(path, encoding))


def _text(path: Path, encoding: str) -> Iterator[Raw | Problem]:
    text, problem = whole_text(path, encoding)
    if problem is not None:
        yield problem
    yield Raw(1, text.replace("\r\n", "\n").replace("\r", "\n"))


def _refuse_suffix(path: Path) -> None:
    """Raises Invalid: by what the file is, or by its suffix."""
    with path.open("rb") as file:
        refuse_foreign_file(path.name, file.read(HEAD_BYTES))
    suffixes = f"{', '.join(TRAINING_SUFFIXES[:-1])} or {TRAINING_SUFFIXES[-1]}"
    mend = _OTHER_SUFFIXES.get(path.suffix.lower(), f"use {suffixes}, a folder, or a hub data set (owner/name)")
    raise Invalid(f"{path.name} is not training data: {mend}.", param="data")
