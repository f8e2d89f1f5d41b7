"""The file in which `parley generate` keeps answers as they come, so that a kill loses none. It knows no model.

Answers end in any order, so `OUT.partial` is a journal: a head that says of what it is, then a line for each answer,
written whole at once. The output proper appears at the end, in the order of the input, by rename. Of a row that was
asked twice the last line counts; a last line that a kill has cut is taken off.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, NoSpace, ParleyError

_FORMAT = "parley generate 1"


@dataclass
class Kept:
    """Where one row's last line begins in the journal, and whether it holds an error."""

    offset: int
    failed: bool


class Journal:
    """One run's answers on disk. As a context manager it closes the file, synced.

    Raises:
        Conflict: there is one already and `resume` is not set, or another run writes it, or the output is there.
        Invalid: it belongs to other rows, or cannot be read or written. NoSpace: the disk is full.
    """

    def __init__(self, out: Path, digest: str, *, resume: bool) -> None:
        self.out = out
        self.path = out.with_name(out.name + ".partial")
        self.kept: dict[int, Kept] = {}
        there = self.path.exists()
        if there and not resume:
            raise Conflict(f"{self.path} is of a run that did not end: go on with --resume, or remove it.")
        if out.exists() and not there:
            raise Conflict(f"{out} is there already: choose another --out, or remove it.")
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _told(error, self.path) from error
        try:
            self._open(digest)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.kept:
                self.sync()
            else:
                self.path.unlink(missing_ok=True)  # nothing was answered: there is nothing to go on with
        finally:
            os.close(self._file)

    @property
    def failed(self) -> list[int]:
        """The rows whose last word is an error."""
        return [row for row, kept in self.kept.items() if kept.failed]

    def add(self, row: int, line: Mapping[str, Any], *, failed: bool) -> None:
        """Writes a row's line: whole, or not at all."""
        self.kept[row] = Kept(self._size, failed)
        self._write({"row": row, "failed": failed, "line": line})

    def sync(self) -> None:
        """Has the disk hold what was written."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise _told(error, self.path) from error

    def finish(self, rows: int) -> None:
        """Writes the output, a line for each row in order; the journal goes unless rows have failed."""
        self.sync()
        new = self.out.with_name(self.out.name + ".new")
        try:
            with self.path.open("rb") as journal, new.open("wb") as stream:
                for row in range(rows):
                    journal.seek(self.kept[row].offset)
                    stream.write(_dumped(json.loads(journal.readline())["line"]))
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(self.out)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise _told(error, new) from error
        if not self.failed:
            self.path.unlink(missing_ok=True)

    def _open(self, digest: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"Another run is writing {self.path}: wait for it, or choose another --out.") from error
        self._size = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream):
                if not line.endswith(b"\n"):
                    break  # a kill came in the middle of it
                self._read(number, line, digest)
                self._size += len(line)
        os.ftruncate(self._file, self._size)
        if not self._size:
            self._write({"format": _FORMAT, "rows": digest})

    def _read(self, number: int, line: bytes, digest: str) -> None:
        try:
            content = json.loads(line)
            if number == 0:
                of_these = content["format"] == _FORMAT and content["rows"] == digest
            else:
                self.kept[content["row"]] = Kept(self._size, content["failed"])
                return
        except (ValueError, LookupError, TypeError) as error:
            raise Invalid(f"{self.path}, line {number + 1} is damaged: remove the file and begin anew.") from error
        if not of_these:
            raise Invalid(
                f"{self.path} is of other rows, another model or other numbers: remove it, or choose another --out."
            )

    def _write(self, content: Mapping[str, Any]) -> None:
        data = _dumped(content)
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise _told(error, self.path) from error
        self._size += len(data)


def digest_of(rows: Iterable[object]) -> str:
    """What tells one run's rows from another's: a SHA-256 over their JSON."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _dumped(content: Any) -> bytes:
    # Half a character (\ud800), which a model's JSON may hold, is no UTF-8: such a line is written in ASCII.
    try:
        return json.dumps(content, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(content).encode() + b"\n"


def _told(error: OSError, path: Path) -> ParleyError:
    if error.errno == 28:
        return NoSpace(f"The disk is full at {path}: free some space and go on with --resume.")
    return Invalid(f"{path} cannot be written: {error.strerror}.")
