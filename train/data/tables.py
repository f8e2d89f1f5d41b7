"""Tables as rows: CSV and TSV with any separator, and the first sheet of an Excel workbook."""

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.data.conversations import Problem
from train.data.encodings import UTF8, guess_encoding, text_mend
from train.data.json_layouts import LAYOUT
from train.data.raw_rows import Raw

# A cell can be a whole manual; at csv's own limit of 131,072 characters reading would stop.
_CELL_LIMIT = 16 * 1024 * 1024
_SEPARATORS = {".csv": ",", ".tsv": "\t"}  # by suffix; the rows may show another
_KNOWN_SEPARATORS = ",;\t|"
_SAMPLE_CHARACTERS = 64 * 1024
_SAMPLE_ROWS = 50
_EXCEL_MARK = "sep="  # the first line in which Excel names the separator
_MAX_EXPANSION, _ALWAYS_ACCEPTED = 100, 64 * 2**20  # as for Parquet: a workbook is a ZIP file
_CELL_COST = 16  # so that millions of empty cells count too
_LAST_ROW = 1_048_576  # Excel's own; a damaged sheet may name any number, and each row up to it would be read


class CsvRows:
    """The column names and rows of a CSV or TSV file. In many locales spreadsheets separate cells with semicolons.

    Raises:
        Invalid: it is not a CSV file.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        csv.field_size_limit(_CELL_LIMIT)
        self._path, self._encoding = path, encoding
        # Column names are shown in errors, so they must be valid Unicode.
        with self._open("replace") as file:
            try:
                sample = file.read(_SAMPLE_CHARACTERS)
                self._first_line = 2 if sample.lower().startswith(_EXCEL_MARK) else 1
                self._separator = _separator(sample, _SEPARATORS.get(path.suffix.lower(), ","))
                file.seek(0)
                self.columns = _unique_names(_header(self._reader(file)))
            except csv.Error as error:
                raise Invalid(f"{path.name} is not a CSV file: {error}. Save it again as CSV.", param="data") from error
            except UnicodeError as error:
                raise Invalid(f"{path.name} is not {encoding}: give another --encoding.", param="encoding") from error

    def __iter__(self) -> Iterator[Raw | Problem]:
        """The rows; a Problem for each that cannot be read."""
        with self._open("surrogateescape" if self._encoding == UTF8 else "replace") as file:
            reader = self._reader(file)
            _header(reader)
            mend = ""
            while True:
                line = reader.line_num + self._first_line  # the first line of the row: a quoted cell may span lines
                try:
                    cells = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield Problem(line, "error", f"not CSV: {error}", "fix or remove this row", "invalid-csv")
                    continue
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(self.columns):
                    message = f"{len(cells)} cells, but the header has {len(self.columns)}"
                    yield Problem(line, "error", message, "quote cells that contain separators", "invalid-csv")
                elif any(not cell.isascii() and self._is_broken(cell) for cell in cells):
                    mend = mend or self._encoding_mend()
                    yield Problem(line, "error", f"not {self._encoding.upper()}", mend, "invalid-utf8")
                else:
                    yield Raw(line, dict(zip(self.columns, cells, strict=True)))

    def _is_broken(self, cell: str) -> bool:
        """Whether the cell has bytes that are not in the encoding, as `_open` reads them."""
        if self._encoding != UTF8:
            return "\ufffd" in cell
        try:
            cell.encode()
        except UnicodeEncodeError:
            return True
        return False

    def _encoding_mend(self) -> str:
        return text_mend(guess_encoding(self._path)) if self._encoding == UTF8 else "give another --encoding"

    def _open(self, errors: str) -> Any:
        encoding = "utf-8-sig" if self._encoding == UTF8 else self._encoding
        return self._path.open(encoding=encoding, errors=errors, newline="")

    def _reader(self, file: Any) -> Any:
        """A reader from the start of the file, after Excel's line."""
        if self._first_line == 2:
            file.readline()
        return csv.reader(file, delimiter=self._separator)


def _header(rows: Iterable[Sequence[Any]]) -> Sequence[Any]:
    """The first row that is not blank; the rows after it come next."""
    return next((cells for cells in rows if any(_cell_text(cell).strip() for cell in cells)), ())


def _separator(sample: str, usual: str) -> str:
    """The separator in Excel's first line, or the one with which most rows have as many cells as the header."""
    first, _, _ = sample.partition("\n")
    if first.lower().startswith(_EXCEL_MARK):
        named = first[len(_EXCEL_MARK) :].rstrip("\r")
        return named if len(named) == 1 and named in _KNOWN_SEPARATORS else usual
    return max((usual, *_KNOWN_SEPARATORS), key=lambda separator: _fit(sample, separator))


def _fit(sample: str, separator: str) -> tuple[float, int]:
    """The share of rows with as many cells as the header, and the number of those; 0 for a single column."""
    rows: list[int] = []
    try:
        for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=separator):
            if cells:
                rows.append(len(cells))
            if len(rows) > _SAMPLE_ROWS:
                break
    except csv.Error:
        pass  # the rows so far are a sample too
    if not rows or rows[0] < 2:
        return 0.0, 0
    return sum(cells == rows[0] for cells in rows) / len(rows), rows[0]


class ExcelRows:
    """The column names and rows of the first sheet of a workbook, with values in place of formulas.

    Raises:
        Invalid: openpyxl is not installed, or the file is not a workbook.
    """

    def __init__(self, path: Path) -> None:
        if find_spec("openpyxl") is None:
            raise Invalid(
                f"Reading {path.name} needs openpyxl: `pip install openpyxl`, or save the sheet as .csv (UTF-8).",
                param="data",
            )
        try:
            with zipfile.ZipFile(path) as parts:
                unpacked = sum(part.file_size for part in parts.infolist())
            self._limit = max(_ALWAYS_ACCEPTED, path.stat().st_size * _MAX_EXPANSION)
            if unpacked > self._limit:
                raise Invalid(f"{path.name} unpacks to {unpacked // 2**20} MiB: save the sheet as .csv.", param="data")
            book = import_module("openpyxl").load_workbook(
                io.BytesIO(path.read_bytes()), read_only=True, data_only=True
            )
        except Invalid:
            raise
        except Exception as error:  # a broken workbook raises whatever its part of the parser does
            message = f"{path.name} cannot be read as an Excel workbook: {error}. Save the sheet as .csv."
            raise Invalid(message, param="data") from error
        if not book.worksheets:
            raise Invalid(f"{path.name} has no sheet with cells: give a workbook with rows.", param="data")
        sheet, *self._others = book.worksheets
        self._name = sheet.title
        try:
            self._rows = enumerate(_rows_of_sheet(sheet), 1)
            header = _header(cells for _, cells in self._rows)
        except Exception as error:  # as above
            raise Invalid(
                f"{path.name} cannot be read as an Excel workbook: {error}. Save the sheet as .csv.", param="data"
            ) from error
        self.columns = _unique_names([_cell_text(cell) for cell in header])

    def __iter__(self) -> Iterator[Raw | Problem]:
        """The rows; a warning first if other sheets have cells."""
        line = size = 0
        try:
            others = [sheet.title for sheet in self._others if _has_cells(sheet)]
            if others:
                message = f"only the sheet {self._name!r} was read, not {', '.join(map(repr, others))[:200]}"
                yield Problem(0, "warning", message, "save each sheet as a separate file", LAYOUT)
            for line, cells in self._rows:
                texts = [_cell_text(cell) for cell in cells]
                size += sum(map(len, texts)) + _CELL_COST * len(texts)
                if size > self._limit:  # a text may stand in the file once for many cells
                    message = f"the sheet unpacks to more than {self._limit // 2**20} MiB"
                    mend = "save it as .csv; nothing from this row on was read"
                    yield Problem(line, "error", message, mend, "invalid-xlsx")
                    return
                if any(text.strip() for text in texts):
                    yield Raw(line, self._row(texts))
        except Exception as error:  # as above
            mend = "save the sheet as .csv; nothing from this row on was read"
            yield Problem(line + 1, "error", f"not an Excel sheet: {error}", mend, "invalid-xlsx")

    def _row(self, texts: Sequence[str]) -> dict[str, str]:
        """The texts by their columns. A sheet has no cells behind the last one with content; a column without a name
        has a number.
        """
        named = dict.fromkeys(self.columns, "") | dict(zip(self.columns, texts, strict=False))
        beyond = enumerate(texts[len(self.columns) :], len(self.columns) + 1)
        return named | {f"column {place}": text for place, text in beyond if text.strip()}


def _rows_of_sheet(sheet: Any) -> Iterator[Sequence[Any]]:
    sheet.reset_dimensions()  # some programs write a wrong range, such as A1, and only that would be read
    return sheet.iter_rows(max_row=_LAST_ROW, values_only=True)


def _has_cells(sheet: Any) -> bool:
    return any(cell is not None for cells in _rows_of_sheet(sheet) for cell in cells)


def _cell_text(cell: Any) -> str:
    """The text of a cell, without `.0` after a whole number."""
    if cell is None:
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _unique_names(header: Sequence[str]) -> tuple[str, ...]:
    """The column names. A column without a name, or with the name of an earlier column, gets its number."""
    names: list[str] = []
    for place, cell in enumerate(header, 1):
        name = cell.strip() or f"column {place}"
        names.append(f"{name} {place}" if name in names else name)
    return tuple(names)


def is_workbook(path: Path) -> bool:
    """Whether a ZIP file is an Excel workbook."""
    try:
        with zipfile.ZipFile(path) as parts:
            return "xl/workbook.xml" in parts.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def named_columns(header: Sequence[str], wanted: Sequence[str]) -> dict[str, str]:
    """Maps each wanted column to its name in the header, which may differ in case and spaces if only one does."""
    columns: dict[str, str] = {}
    for name in wanted:
        alike = [column for column in header if fold_name(column) == fold_name(name)]
        if name in header:
            columns[name] = name
        elif len(alike) == 1:
            columns[name] = alike[0]
    return columns


def fold_name(name: str) -> str:
    """A column's name without case, and with `_` for spaces and dashes."""
    return "_".join(name.strip().strip("\ufeff").casefold().replace("-", " ").split())
