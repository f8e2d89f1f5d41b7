"""The process of a Python grader: in bubblewrap without network and files, or unsandboxed if an owner allows it.

Bubblewrap isolates it with namespaces: no network, no other processes, an empty /tmp in memory, and only read access to
the interpreter and its packages. The limits are OpenAI's: two minutes and 2 GiB per item.
"""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from models.errors import Invalid

_PROGRAM = Path(__file__).with_name("sandbox_program.py")
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_MOST_LINE = 2**17
_GRACE_S, _PROBE_S, _TICK_S = 5.0, 10.0, 1.0
_MOST_ERROR = 500
_ATTEMPTS = 3


@dataclass(frozen=True)
class SandboxLimits:
    """Limits for one item: time in seconds and memory in bytes."""

    seconds: float = 120.0
    memory: int = 2 * 2**30


@dataclass(frozen=True)
class SandboxResult:
    """The score of one item, or the error of the program (`runtime` True) or of the sandbox."""

    score: float | None = None
    error: str | None = None
    runtime: bool = True


def check_sandbox(unsandboxed: bool) -> None:
    """Checks that Python graders can run here.

    Raises:
        Invalid: there is no bubblewrap, and the setting `unsandboxed_graders` is off.
    """
    if not unsandboxed and not _has_bubblewrap():
        raise Invalid(
            "Python graders need bubblewrap and user namespaces on the server: apt-get install bubblewrap and restart "
            "Parley. If you trust every grader, set unsandboxed_graders instead.",
            param="type",
            code="python_grader_server_error",
        )


@cache
def _has_bubblewrap() -> bool:
    """Whether bubblewrap is installed and can create namespaces, which containers often forbid. Checked once."""
    try:
        probe = subprocess.run(
            ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, timeout=_PROBE_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return probe.returncode == 0


@dataclass(frozen=True)
class Program:
    """A grader's source and how it runs. `tick` is called about once a second; an exception that it raises ends it."""

    source: str
    unsandboxed: bool = False
    limits: SandboxLimits = SandboxLimits()
    tick: Callable[[], None] = lambda: None


async def run_program(program: Program, cases: Sequence[dict[str, Any]]) -> list[SandboxResult]:
    """Grades each case ({sample, item}) with the program, in order, in one process; a new one if it fails.

    Raises:
        Invalid: see `check_sandbox`.
    """
    check_sandbox(program.unsandboxed)
    results: list[SandboxResult] = []
    failures = 0  # consecutive processes that graded nothing
    while len(results) < len(cases):
        new = await _run_process(program, cases[len(results) :])
        results += new
        failures = 0 if new[0].runtime else failures + 1
        if failures == _ATTEMPTS:
            results += [new[0]] * (len(cases) - len(results))
    return results


async def _run_process(program: Program, cases: Sequence[dict[str, Any]]) -> list[SandboxResult]:
    """The results up to the first case at which the process fails; at least one."""
    process = await asyncio.create_subprocess_exec(
        *_command(program.unsandboxed),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        limit=_MOST_LINE,
    )
    assert process.stdin is not None
    limits = program.limits
    setup = {"seconds": limits.seconds, "memory": limits.memory, "alone": _has_bubblewrap()}
    lines = [json.dumps(setup | {"source": program.source})]
    results: list[SandboxResult] = []
    try:
        for case in cases:
            lines.append(json.dumps(case))
            results.append(_parse_result(await _exchange(process, lines, program)))
            lines.clear()
    except (OSError, ValueError, TimeoutError):
        results.append(SandboxResult(error="The grader's process ended without a result.", runtime=False))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        process.stdin.close()
    return results


async def _exchange(process: asyncio.subprocess.Process, lines: Sequence[str], program: Program) -> bytes:
    """Sends lines and returns the line that the process writes.

    Raises:
        TimeoutError: it writes none in time.
    """
    writing, reading = process.stdin, process.stdout
    assert writing is not None
    assert reading is not None

    async def send_and_read() -> bytes:
        writing.write("".join(f"{line}\n" for line in lines).encode())
        await writing.drain()
        return await reading.readline()

    exchange = asyncio.ensure_future(send_and_read())
    deadline = time.monotonic() + program.limits.seconds + _GRACE_S
    try:
        while not exchange.done():
            await asyncio.wait({exchange}, timeout=_TICK_S)
            program.tick()
            if time.monotonic() > deadline:
                raise TimeoutError
        return await exchange
    finally:
        exchange.cancel()


def _parse_result(line: bytes) -> SandboxResult:
    """The result in a line of the program. The line may be anything, because the grader can write to the pipe itself.

    Raises:
        ValueError: it is not a result.
    """
    result = json.loads(line)
    score, error = (result.get("score"), result.get("error")) if isinstance(result, dict) else (None, None)
    if isinstance(score, float) and math.isfinite(score):
        return SandboxResult(score)
    if isinstance(error, str):
        return SandboxResult(error=error[:_MOST_ERROR])
    raise ValueError("not a result")


def _command(unsandboxed: bool) -> list[str]:
    python = [os.path.realpath(sys.executable), "-I", "-B"]
    if unsandboxed and not _has_bubblewrap():
        return [*python, str(_PROGRAM)]
    command = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    # One thread, because a forked child has no others.
    for name, value in (("PATH", "/usr/bin:/bin"), ("OPENBLAS_NUM_THREADS", "1")):
        command += ["--setenv", name, value]
    for path in _SYSTEM:
        if os.path.islink(path):
            command += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            command += ["--ro-bind", path, path]
    packages = [path for path in sys.path if path.endswith("site-packages")]
    for path in dict.fromkeys((sys.base_prefix, *packages)):
        command += ["--ro-bind", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--size", str(2**30), "--tmpfs", "/tmp", "--chdir", "/tmp"]  # noqa: S108 -- its own /tmp
    command += ["--ro-bind", str(_PROGRAM), "/grader/run.py"]
    paths = ", ".join(repr(path) for path in packages)
    start = f"import sys; sys.path += [{paths}]; import runpy; runpy.run_path('/grader/run.py', run_name='__main__')"
    return [*command, *python, "-c", start]
