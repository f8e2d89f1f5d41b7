"""The logs of processes that we start: where they are, how they end, and how they are kept from growing without end.

A foreign program holds its log open, so a log is rotated by copying it and cutting it short: whoever writes appends,
and goes on at the new end. What is written between the copy and the cut, a few lines at the most, is lost.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

LIMIT_BYTES = 16 * 1024 * 1024
KEPT = 3


def log_path(logs: Path, name: str) -> Path:
    """Where the process of that name writes; a model's id may hold slashes."""
    return logs / f"{name.replace('/', '--')}.log"


def engine_log(logs: Path, model_id: str) -> Path:
    """Where a model's engine writes."""
    return log_path(logs, f"engine-{model_id}")


def rotate(log: Path, limit: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Cuts a log that is over `limit` bytes short, and keeps the last `kept` ones as .log.1 (the newest), .log.2, …

    On a full disk nothing is kept: the log is cut all the same, or it would fill what somebody frees.
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
    """The end of a log, from byte `since` on at the most."""
    try:
        with log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(since if since <= end else 0, end - size))
            return stream.read().decode("utf-8", "replace")
    except OSError:
        return ""


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of a log, the blank ones left out."""
    return [line.rstrip() for line in tail(log).splitlines() if line.strip()][-count:]


def _old(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
