"""The usage that a gateway could not write to the database, in a file that outlives its process."""

import fcntl
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import IO, Any

import orjson

from models.usage import Batch, Slot, Sums

_log = logging.getLogger("parley.gateway")
NamedSums = tuple[Batch, dict[Slot, Sums]]


class UsageFile:
    """One process's file. It exists only while there is unwritten usage.

    Each process locks its name, so that another one can take over the file of a process that will not come back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: IO[bytes] | None = None

    def open(self) -> None:
        """Locks the name. Where another process has it, the process id is added to it."""
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(self._path)
            if self._lock is None:
                self._path = self._path.with_name(f"{self._path.stem}-{os.getpid()}.json")
                self._lock = _lock(self._path)

    def save(self, batch: NamedSums | None, later: Mapping[Slot, Sums]) -> bool:
        """Replaces the content. Returns whether that worked."""
        content = {
            "batch": {"writer": batch[0].writer, "id": batch[0].id, "sums": _to_rows(batch[1])} if batch else None,
            "later": _to_rows(later),
        }
        pending = self._path.with_suffix(".pending")
        try:
            with pending.open("wb") as file:
                file.write(orjson.dumps(content))
                file.flush()
                os.fsync(file.fileno())
            pending.replace(self._path)
        except OSError as error:
            _log.warning("unwritten usage cannot be stored in %s: %s", self._path, error)
            return False
        return True

    def load(self) -> tuple[NamedSums | None, dict[Slot, Sums]]:
        """The batch that was being written, and what came later; both empty if there is no file."""
        try:
            content = orjson.loads(self._path.read_bytes())
            batch = content["batch"]
            named = (Batch(batch["writer"], batch["id"]), _from_rows(batch["sums"])) if batch else None
            return named, _from_rows(content["later"])
        except FileNotFoundError:
            return None, {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.error("%s cannot be read: %s. The usage in it is not counted.", self._path, error)
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(".damaged"))
            return None, {}

    def adopt(self) -> bool:
        """Takes over the file of a process that has ended, if this one has none. Returns whether there was one."""
        with suppress(OSError):
            for other in self._path.parent.glob("*.json"):
                lock = None if self._lock is None or other == self._path else _lock(other)
                if lock is not None:
                    with lock:
                        other.rename(self._path)
                        other.with_suffix(".lock").unlink(missing_ok=True)
                    return True
        return False

    def close(self) -> None:
        """Leaves the file to other processes."""
        if self._lock is not None:
            self._lock.close()

    def delete(self) -> None:
        """Deletes the file: everything is in the database."""
        self._path.unlink(missing_ok=True)


def _lock(path: Path) -> IO[bytes] | None:
    """The lock of a file's name until it is closed; None if another process has it. Raises OSError."""
    stream = path.with_suffix(".lock").open("wb")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def _to_rows(used: Mapping[Slot, Sums]) -> list[dict[str, Any]]:
    return [slot._asdict() | asdict(sums) for slot, sums in used.items()]


def _from_rows(rows: list[dict[str, Any]]) -> dict[Slot, Sums]:
    used = {}
    for row in rows:
        slot = Slot(date.fromisoformat(row.pop("day")), row.pop("key_id"), row.pop("model_id"))
        used[slot] = Sums(**row)
    return used
