"""Logs of child processes: their paths, their last lines, and their rotation.

The program keeps its log open, so a log is rotated by copying and truncating it; the program appends from there. Lines
written between the copy and the truncation are lost.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

LIMIT_BYTES = 16 * 1024 * 1024
KEPT = 3


def log_path(logs: Path, name: str) -> Path:
    """The log of a process. Model ids may contain slashes."""
    return logs / f"{name.replace('/', '--')}.log"


def engine_log(logs: Path, model_id: str) -> Path:
    """The log of a model's engine."""
    return log_path(logs, f"engine-{model_id}")


def rotate(log: Path, limit: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Truncates a log that is over `limit` bytes, and keeps the last `kept` copies as .log.1 (the newest), .log.2, …

    On a full disk no copy is kept: the log is truncated all the same, so that it does not fill what was freed.
    """
    try:
        if log.stat().st_size <= limit:
            return False
        with suppress(OSError):
            for number in range(kept - 1, 0, -1):
                older = _old(log, number)
                if older.exists():
                    older.replace(_old(log, number + 1))
            shutil.copyfile(log, _old(log, 1))
        os.truncate(log, 0)
    except OSError:
        return False
    return True


def tail(log: Path, since: int = 0, size: int = 8192) -> str:
    """The end of a log: at most `size` bytes, from byte `since` on."""
    try:
        with log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(since if since <= end else 0, end - size))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log without blank ones."""
    return [line.rstrip() for line in tail(log).splitlines() if line.strip()][-count:]


def _old(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
