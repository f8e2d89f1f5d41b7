"""Runs inside a Python grader's process: one line of JSON in for each item, one line of JSON out.

It imports nothing from Parley, which the sandbox does not contain. The grader's source is executed once, so that its
imports are too; each item is graded in a forked child, which is killed with all processes that it started.
"""

import json
import math
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_MOST_RESULT = 65_536  # bytes


def main() -> None:
    """Reads the source and the limits from the first line, then one item a line."""
    lines, answers = os.fdopen(0, "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    reader = _Lines(lines)
    setup = json.loads(reader.next() or b"{}")
    _limit(setup["memory"])
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    names: dict[str, Any] = {"__name__": "grader"}
    broken = _attempt(lambda: exec(compile(setup["source"], "grader.py", "exec"), names))  # noqa: S102 -- its purpose
    while (line := reader.next()) is not None:
        result = json.dumps(broken).encode() if broken else _grade_in_child(names, line, setup["seconds"])
        _reap(setup["alone"])
        answers.write(result + b"\n")


class _Lines:
    """Lines of a pipe, from a copy of its descriptor, so that the grader cannot read them."""

    def __init__(self, stream: Any) -> None:
        self._stream = os.fdopen(os.dup(stream.fileno()), "rb")

    def next(self) -> bytes | None:
        """The next line; None at the end."""
        return self._stream.readline() or None


def _limit(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))


def _attempt(action: Callable[[], object]) -> dict[str, str] | None:
    """Runs code of the grader; returns its error."""
    try:
        action()
    except MemoryError:
        return {"error": "MemoryError: the grader needs more memory than its limit"}
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return None


def _grade_in_child(names: dict[str, Any], line: bytes, seconds: float) -> bytes:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        _grade(names, json.loads(line), writing)
        os._exit(0)
    os.close(writing)
    result = _read(reading, seconds)
    os.close(reading)
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return result


def _grade(names: dict[str, Any], case: dict[str, Any], writing: int) -> None:
    """Writes the result of one item: {"score"} or {"error"}."""
    result: dict[str, Any] = {}

    def grade() -> None:
        score = float(names["grade"](case["sample"], case["item"]))
        if not math.isfinite(score):
            raise ValueError("the score is not a finite number")
        result["score"] = score

    os.write(writing, json.dumps(_attempt(grade) or result).encode())


def _read(reading: int, seconds: float) -> bytes:
    """The child's result; an error if it takes too long or ends without one."""
    deadline, data = time.monotonic() + seconds, b""
    while len(data) < _MOST_RESULT:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], left)[0]:
            return json.dumps({"error": f"TimeoutError: the grader took longer than {seconds:g} seconds"}).encode()
        chunk = os.read(reading, 4096)
        if not chunk:
            break
        data += chunk
    try:
        result = json.loads(data)
        known = {name: result[name] for name in ("score", "error") if name in result}
        return json.dumps(known).encode()
    except (ValueError, TypeError):
        return json.dumps({"error": "RuntimeError: the grader ended without a score"}).encode()


def _reap(alone: bool) -> None:
    """Ends processes that the child left behind. `alone`: all processes visible to this one are the grader's."""
    if alone:
        with suppress(OSError):
            os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


if __name__ == "__main__":
    sys.setrecursionlimit(10_000)
    main()
