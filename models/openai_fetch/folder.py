"""The folder of a fetch: files that appear whole or not at all, and the manifest with each object's state.

A line is appended to the manifest when the object's file is complete, so a kill loses only what was under way. The last
line of an object counts; opening and closing the folder sort the manifest.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from models.openai_fetch.account import Record, Stop

MANIFEST = "manifest.jsonl"
_PIECE = 2**20


class Folder:
    """An open folder, which only one process may have open. `records` has each object's record by its path.

    A record has `path`, `kind`, `id`, `state`, `time`; if it is fetched also `bytes` and `sha256`, otherwise `reason`.
    `problems` are the records of this run with the states `forbidden` and `failed`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Record] = []
        self._mutex = threading.Lock()
        with translate_disk_errors(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock_file = (path / "fetch.lock").open("w")
        self._lock()
        self.records = read_manifest(path)
        self._sort()

    def close(self) -> None:
        """Sorts the manifest and unlocks the folder."""
        self._sort()
        self._journal.close()
        self._lock_file.close()

    def record(self, path: str, kind: str, name: str, state: str, **more: Any) -> None:
        """Records the state of an object. A copy that is here stays if the object cannot be fetched again."""
        record: Record = {"path": path, "kind": kind, "id": name, "state": state, **more}
        with self._mutex:
            if state in ("forbidden", "failed"):
                self.problems.append(record)
            if state != "fetched" and self.has(path):
                record = {**self.records[path], "reason": f"not refreshed: {more.get('reason')}"}
            self._append(record)

    def has(self, path: str) -> bool:
        """Whether a complete copy is here."""
        record = self.records.get(path, {})
        if record.get("state") != "fetched":
            return False
        with suppress(OSError):
            return (self.path / path).stat().st_size == record["bytes"]
        return False

    def write(self, path: str, objects: Iterable[Record]) -> Record:
        """Writes one object a line, whole or not at all; returns the file's `bytes` and `sha256`."""
        return write_file(self.path / path, (f"{json.dumps(value)}\n".encode() for value in objects))

    def verify(self) -> list[Record]:
        """The records of copies that are damaged or gone. They become `failed`, so that the next fetch replaces them.

        Nothing is deleted.
        """
        damaged = []
        for record in [one for one in self.records.values() if one["state"] == "fetched"]:
            target = self.path / record["path"]
            with translate_disk_errors(target):
                good = target.is_file() and hash_file(target) == record["sha256"]
            if not good:
                reason = "its checksum differs" if target.is_file() else "its file is gone"
                self._append({**record, "state": "failed", "reason": reason})
                damaged.append(self.records[record["path"]])
        return damaged

    def _append(self, record: Record) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")  # noqa: UP017 -- Python 3.9
        with translate_disk_errors(self.path):
            self.records[record["path"]] = {**record, "time": now}
            self._journal.write(json.dumps(self.records[record["path"]]) + "\n")
            self._journal.flush()

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = f"Another fetch is writing to {self.path}. Wait until it ends, or choose another folder."
            raise Stop(text) from None

    def _sort(self) -> None:
        self.write(MANIFEST, (self.records[path] for path in sorted(self.records)))
        with translate_disk_errors(self.path):
            self._journal = (self.path / MANIFEST).open("a", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Record]:
    """The records of a folder by path; none if it has no manifest. A line that a kill cut off is left out."""
    return {
        one["path"]: one
        for one in read_objects(folder / MANIFEST)
        if isinstance(one.get("path"), str) and one.get("state") and one.get("kind")
    }


def read_objects(path: Path) -> Iterator[Record]:
    """The objects of a JSON Lines file; none without a file."""
    with translate_disk_errors(path):
        if not path.is_file():
            return
        with path.open("rb") as file:
            for line in file:
                with suppress(ValueError):
                    value = json.loads(line)
                    if isinstance(value, dict):
                        yield value


def write_file(target: Path, pieces: Iterable[bytes]) -> Record:
    """Writes a file, whole or not at all; its `bytes` and `sha256`."""
    part, digest, size = target.with_name(f"{target.name}.part"), hashlib.sha256(), 0
    with translate_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                size += len(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    return {"bytes": size, "sha256": digest.hexdigest()}


def hash_file(path: Path) -> str:
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(_PIECE), b""):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def translate_disk_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk in the block into Stop."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Stop(
                f"The disk of {path.parent} is full. Free some space, and run the same command again to continue."
            ) from None
        raise Stop(f"{error.filename or path} cannot be read or written: {error.strerror or error}.") from None
