"""Publication on disk: a folder or a file appears whole or not at all.

A temporary name on the same file system, fsync of every file and folder, then one rename. Whoever reads never
sees a half. A kill leaves at most a `.pending-…` folder, or a whole one that carries a mark because nobody has named it
yet: `sweep` and `Registry.sweep_unnamed` remove those at a later start of `parley up`.
"""

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.database import new_ulid
from models.errors import Conflict, NoSpace, TooLarge

_PENDING = ".pending-"
_UNNAMED = ".unnamed"  # stands in a published folder until a database names it


@dataclass(frozen=True)
class PendingFolder:
    """`path` is the folder to fill; `final` is where it will stand once the block ends well."""

    path: Path
    final: Path


@contextmanager
def publish_folder(parent: Path, name: str | None = None) -> Iterator[PendingFolder]:
    """Fill `.path`; at the end of the block it is durable at `.final`. After an error nothing is left.

    Args:
        parent: the folder that will hold the new one; made where it is missing.
        name: the new folder's name; a fresh ULID without it.

    Raises:
        Conflict: the name is taken. NoSpace: the disk is full.
    """
    final = parent / (name or new_ulid())
    pending = parent / f"{_PENDING}{new_ulid()}"
    try:
        pending.mkdir(parents=True)
        yield PendingFolder(pending, final)
        if final.exists():
            raise Conflict(f"{final} exists already: what is published is never overwritten.")
        _sync_tree(pending)
        (pending / _UNNAMED).touch()  # last, so that its time says when the folder was complete
        _sync(pending)
        pending.rename(final)
        _sync(parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left for {final}: free some space and try again.") from error
        raise
    finally:
        shutil.rmtree(pending, ignore_errors=True)


def atomic_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file whole: durable under its name when this returns, untouched after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f"{_PENDING}{new_ulid()}")
    try:
        with os.fdopen(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        pending.rename(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left for {path}: free some space and try again.") from error
        raise
    finally:
        pending.unlink(missing_ok=True)


class IncomingFile:
    """A file that arrives in pieces, beside its final place. Made by `incoming_file`.

    `size` in bytes and `sha256` (a hash object) are of what has come so far.
    """

    def __init__(self, pending: Path, limit: int | None) -> None:
        self.size = 0
        self.sha256 = hashlib.sha256()
        self._pending = pending
        self._limit = limit
        self._stream = pending.open("xb")

    def write(self, data: bytes) -> None:
        """Takes the next piece.

        Raises:
            TooLarge: more bytes than the limit. NoSpace: the disk is full.
        """
        if self._limit is not None and self.size + len(data) > self._limit:
            raise TooLarge(f"The file is over the limit of {self._limit} bytes.", param="file")
        with _full_disk_told(self._pending.parent):
            self._stream.write(data)
        self.sha256.update(data)
        self.size += len(data)

    def publish(self, name: str) -> Path:
        """Gives it its name, whole and durable; returns where it stands."""
        final = self._pending.with_name(name)
        with _full_disk_told(final):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._pending.rename(final)
            _sync(final.parent)
        return final

    def close(self) -> None:
        """Lets go of it; what was not published is removed."""
        with suppress(OSError):  # a full disk may speak up once more, of what is removed next
            self._stream.close()
        self._pending.unlink(missing_ok=True)


@contextmanager
def incoming_file(parent: Path, limit: int | None = None) -> Iterator[IncomingFile]:
    """A new file in `parent` that pieces are written to. Unless it is published in the block, nothing is left of it.

    Args:
        parent: the folder that will hold it; made where it is missing.
        limit: the most bytes that it may have.
    """
    with _full_disk_told(parent):
        parent.mkdir(parents=True, exist_ok=True)
        incoming = IncomingFile(parent / f"{_PENDING}{new_ulid()}", limit)
    try:
        yield incoming
    finally:
        incoming.close()


def sweep(parent: Path, older_than_s: float = 0.0) -> int:
    """Removes what killed publications left under `parent`; says how many.

    Args:
        older_than_s: leave alone what changed within so many seconds, where somebody may be publishing now.
    """
    limit = time.time() - older_than_s
    left = [path for path in parent.glob(f"{_PENDING}*") if path.stat().st_mtime <= limit]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


def claim_folder(folder: Path) -> None:
    """Takes the mark off a published folder: a database names it now."""
    mark = folder / _UNNAMED
    if mark.exists():  # asked first: a base may be on a disk that nobody may write to
        mark.unlink(missing_ok=True)


def unclaimed_folders(parent: Path, older_than_s: float) -> list[Path]:
    """Published folders under `parent` that still carry the mark, and in which nothing changed for so many seconds.

    A folder without the mark is never among them, whoever put it there.
    """
    limit = time.time() - older_than_s
    marked = [mark.parent for mark in sorted(parent.glob(f"*/{_UNNAMED}")) if not mark.parent.name.startswith(_PENDING)]
    return [folder for folder in marked if not folder.is_symlink() and _last_change(folder) <= limit]


@contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left for {path}: free some space and try again.") from error
        raise


def _last_change(folder: Path) -> float:
    """When anything in a folder was last written; now, where something goes while one looks."""
    try:
        return max(max(path.lstat().st_mtime for path in folder.rglob("*")), folder.stat().st_mtime)
    except OSError:
        return time.time()


def _sync_tree(top: Path) -> None:
    for folder, _, files in os.walk(top, topdown=False):
        for file in files:
            _sync(Path(folder) / file)
        _sync(Path(folder))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
