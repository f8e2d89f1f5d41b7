"""The file in which a bulk run stores answers as they arrive, so that a kill loses none. It knows no models.

Answers arrive in any order, so `OUT.partial` is a journal: a header that identifies the rows, then one line per answer.
At the end the output is written in the order of the input and renamed into place. If a row was answered twice, its last
line counts. A truncated last line is removed. Batches read the lines and write files of their own.
"""

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import Conflict, Invalid, NoSpace, ParleyError

_FORMAT = "parley generate 1"
_SYNC_EVERY_S = 1.0


@dataclass(slots=True)
class StoredAnswer:
    """Where a row's last line begins in the journal, and whether it holds an error."""

    offset: int
    failed: bool


class Journal:
    """The answers of one run on disk. As a context manager it syncs and closes the file.

    Raises:
        Conflict: an unfinished journal exists and `resume` is not set, another run is writing it, or the output exists.
        Invalid: it belongs to other rows, or cannot be read or written. NoSpace: the disk is full.
    """

    def __init__(self, out: Path, digest: str, *, resume: bool) -> None:
        self.out = out
        self.path = out.with_name(out.name + ".partial")
        self.stored: dict[int, StoredAnswer] = {}
        exists = self.path.exists()
        if exists and not resume:
            raise Conflict(f"{self.path} belongs to an unfinished run. Continue it with --resume, or remove it.")
        if out.exists() and not exists:
            raise Conflict(f"{out} already exists. Choose another --out, or remove it.")
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise _write_error(error, self.path) from error
        try:
            self._open(digest)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.stored:
                self.sync()
            else:
                self.path.unlink(missing_ok=True)  # nothing to resume
        finally:
            os.close(self._file)

    @property
    def failed(self) -> list[int]:
        """The rows whose last line is an error."""
        return [row for row, stored in self.stored.items() if stored.failed]

    def add(self, row: int, line: Mapping[str, Any], *, failed: bool) -> None:
        """Writes a row's line completely or not at all."""
        self.stored[row] = StoredAnswer(self._size, failed)
        self._write({"row": row, "failed": failed, "line": line})

    def sync(self) -> None:
        """Syncs the file to disk."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise _write_error(error, self.path) from error

    def lines(self, rows: int) -> Iterator[tuple[int, bool, Any]]:
        """(row, whether it is an error, line) of each row that has a line, in order.

        Raises:
            Invalid: the file cannot be read.
        """
        try:
            with self.path.open("rb") as journal:
                for row in range(rows):
                    if (stored := self.stored.get(row)) is not None:
                        journal.seek(stored.offset)
                        yield row, stored.failed, json.loads(journal.readline())["line"]
        except OSError as error:
            raise Invalid(f"{self.path} cannot be read: {error.strerror}.") from error

    def finish(self, rows: int) -> None:
        """Writes the output, one line per row in order. Deletes the journal unless rows have failed."""
        self.sync()
        new = self.out.with_name(self.out.name + ".new")
        try:
            with new.open("wb") as stream:
                for _, _, line in self.lines(rows):
                    stream.write(dumped(line))
                stream.flush()
                os.fsync(stream.fileno())
            new.replace(self.out)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise _write_error(error, new) from error
        if not self.failed:
            self.path.unlink(missing_ok=True)

    def _open(self, digest: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Conflict(f"Another run is writing {self.path}. Wait for it, or choose another --out.") from error
        self._size = 0
        with self.path.open("rb") as stream:
            for number, line in enumerate(stream):
                if not line.endswith(b"\n"):
                    break  # truncated by a kill
                self._read(number, line, digest)
                self._size += len(line)
        os.ftruncate(self._file, self._size)
        if not self._size:
            self._write({"format": _FORMAT, "rows": digest})

    def _read(self, number: int, line: bytes, digest: str) -> None:
        try:
            content = json.loads(line)
            if number == 0:
                matches = content["format"] == _FORMAT and content["rows"] == digest
            else:
                self.stored[content["row"]] = StoredAnswer(self._size, content["failed"])
                return
        except (ValueError, LookupError, TypeError) as error:
            raise Invalid(f"{self.path}, line {number + 1} is damaged. Remove the file and start again.") from error
        if not matches:
            raise Invalid(
                f"{self.path} belongs to other rows, another model or other options. Remove it, or choose another "
                "--out."
            )

    def _write(self, content: Mapping[str, Any]) -> None:
        data = dumped(content)
        try:
            written = os.write(self._file, data)
            if written < len(data):
                raise OSError(28, "No space left on device")
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise _write_error(error, self.path) from error
        self._size += len(data)


def digest_of(rows: Iterable[object]) -> str:
    """A SHA-256 over the rows' JSON that identifies a run."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


@asynccontextmanager
async def syncing(journal: Journal) -> AsyncIterator[None]:
    """Syncs a journal every second during the block.

    Answers survive a kill at once; a power cut loses at most a second of them.
    """

    async def sync_forever() -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            await asyncio.to_thread(journal.sync)

    task = asyncio.ensure_future(sync_forever())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def dumped(content: Any) -> bytes:
    """JSON in one line of UTF-8."""
    # A lone surrogate (\ud800), which a model's JSON may contain, is not valid UTF-8: such a line is written as ASCII.
    try:
        return json.dumps(content, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(content).encode() + b"\n"


def _write_error(error: OSError, path: Path) -> ParleyError:
    if error.errno == 28:
        return NoSpace(f"The disk is full at {path}. Free some space and continue with --resume.")
    return Invalid(f"{path} cannot be written: {error.strerror}.")
