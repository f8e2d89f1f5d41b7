"""Atomic publication on disk: a folder or file appears whole or not at all.

It is written under a temporary name on the same file system, synced, and renamed once. A kill leaves at most a
`.pending-…` entry, or a whole folder with a mark because no database row names it yet; `sweep` and
`Registry.sweep_unclaimed` remove these at the next start of `parley up` and at the next publication. The process that
writes a folder holds a lock on it, so a folder that a kill left is recognised at once.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from models.clock import new_ulid
from models.errors import Busy, Conflict, NoSpace, ParleyError, TooLarge
from models.files.file_kinds import HEAD_BYTES

_PENDING = ".pending-"
_LOCKED = f"{_PENDING}lock-"  # folders that their writer locks
ABANDONED_S = 24 * 3600.0  # no write of an entry without a lock takes longer than this
_UNCLAIMED = ".unnamed"  # a file in a published folder until a database row names the folder


@dataclass(frozen=True)
class PendingFolder:
    """`path` is the folder to fill; `final` is its path after the block succeeds."""

    path: Path
    final: Path


@contextmanager
def publish_folder(parent: Path, name: str | None = None) -> Iterator[PendingFolder]:
    """Yields a folder to fill at `.path`. At the end of the block it is durable at `.final`; an error leaves nothing.

    Args:
        parent: the folder that will hold the new one; created if missing.
        name: the new folder's name; a new ULID by default.

    Raises:
        Conflict: the name is taken. NoSpace: the disk is full.
    """
    final = parent / (name or new_ulid())
    pending, lock = parent / f"{_PENDING}{new_ulid()}", None
    try:
        with _translate_full_disk(final):
            pending.mkdir(parents=True)
            if (lock := _lock_folder(pending)) is not None:
                pending = pending.rename(parent / f"{_LOCKED}{pending.name.removeprefix(_PENDING)}")
            yield PendingFolder(pending, final)
            if final.exists():
                raise Conflict(f"{final} exists already, and published folders are never overwritten.")
            _sync_tree(pending)
            (pending / _UNCLAIMED).touch()  # last, so that its time is when the folder was complete
            _sync(pending)
            pending.rename(final)
            _sync(parent)
    finally:
        shutil.rmtree(pending, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def atomic_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Writes a file atomically: durable when this returns, unchanged after an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pending = path.with_name(f"{_PENDING}{new_ulid()}")
    try:
        with _translate_full_disk(path):
            with os.fdopen(os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            pending.rename(path)
            _sync(path.parent)
    finally:
        pending.unlink(missing_ok=True)


class IncomingFile:
    """A file that is written in pieces beside its final path. Made by `incoming_file`.

    `size` (bytes), `sha256` (a hash object) and `head` (the first bytes, `HEAD_BYTES` at most) cover the pieces so far.
    """

    def __init__(self, pending: Path, limit: int | None) -> None:
        self.size = 0
        self.head = b""
        self.sha256 = hashlib.sha256()
        self._pending = pending
        self._limit = limit
        self._stream = pending.open("xb")

    def write(self, data: bytes) -> None:
        """Writes the next piece.

        Raises:
            TooLarge: more bytes than the limit. NoSpace: the disk is full.
        """
        if self._limit is not None and self.size + len(data) > self._limit:
            raise TooLarge(f"The file is over the limit of {self._limit} bytes.", param="file")
        with _translate_full_disk(self._pending.parent):
            self._stream.write(data)
        if len(self.head) < HEAD_BYTES:
            self.head += data[: HEAD_BYTES - len(self.head)]
        self.sha256.update(data)
        self.size += len(data)

    def publish(self, name: str) -> Path:
        """Renames the durable file to `name`; returns its path."""
        final = self._pending.with_name(name)
        with _translate_full_disk(final):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._pending.rename(final)
            _sync(final.parent)
        return final

    def close(self) -> None:
        """Closes the file, and removes it unless it was published."""
        with suppress(OSError):  # a full disk may fail again on the data that is discarded
            self._stream.close()
        self._pending.unlink(missing_ok=True)


@contextmanager
def incoming_file(parent: Path, limit: int | None = None) -> Iterator[IncomingFile]:
    """Yields a new file in `parent` to write to. It is removed unless published inside the block.

    Args:
        parent: the folder that will hold it; created if missing.
        limit: the maximum size in bytes.
    """
    with _translate_full_disk(parent):
        parent.mkdir(parents=True, exist_ok=True)
        incoming = IncomingFile(parent / f"{_PENDING}{new_ulid()}", limit)
    try:
        yield incoming
    finally:
        incoming.close()


@contextmanager
def lock_file(path: Path, message: str, error: type[ParleyError] = Busy) -> Iterator[None]:
    """Locks a file for the block. The lock ends with the process, even on a kill.

    Raises:
        ParleyError: of the type `error`, with the message, if another process holds the lock.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise error(message) from taken
        yield
    finally:
        os.close(handle)


def sweep(parent: Path, older_than_s: float = 0.0) -> int:
    """Removes what killed publications left under `parent`; returns how many.

    Args:
        older_than_s: keep what changed more recently and has no lock, because it may still be in progress.
    """
    limit = time.time() - older_than_s
    left = [path for path in parent.glob(f"{_PENDING}*") if _is_abandoned(path, limit)]
    for path in left:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(left)


def _is_abandoned(path: Path, limit: float) -> bool:
    """Whether an entry is not written any more: its lock is free or, without one, it has not changed since `limit`."""
    try:
        if not path.name.startswith(_LOCKED):
            return path.stat().st_mtime <= limit
        lock = _lock_folder(path)
    except OSError:  # it disappeared meanwhile
        return False
    if lock is not None:
        os.close(lock)
    return lock is not None


def _lock_folder(folder: Path) -> int | None:
    """Locks a folder until the returned handle is closed or the process ends; None if it cannot be locked."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it, or the file system has no locks
        os.close(handle)
        return None
    return handle


def claim_folder(folder: Path) -> None:
    """Removes the mark from a published folder after a database row names it."""
    mark = folder / _UNCLAIMED
    if mark.exists():  # checked first, because a base may be on a read-only disk
        mark.unlink(missing_ok=True)


def unclaimed_folders(parent: Path, older_than_s: float) -> list[Path]:
    """Published folders under `parent` that carry the mark and have not changed for `older_than_s` seconds.

    Folders without the mark are never included.
    """
    limit = time.time() - older_than_s
    marked = [
        mark.parent for mark in sorted(parent.glob(f"*/{_UNCLAIMED}")) if not mark.parent.name.startswith(_PENDING)
    ]
    return [folder for folder in marked if not folder.is_symlink() and _last_change(folder) <= limit]


@contextmanager
def _translate_full_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(f"No space left for {path}: free some space and try again.") from error
        raise


def _last_change(folder: Path) -> float:
    """When anything in a folder was last written; now, if an entry disappears meanwhile."""
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
