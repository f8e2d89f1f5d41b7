"""Child processes under guardians: start, inspect, stop. It knows pipes, logs and pids, not what runs.

The pipe to a guardian's standard input is its lifeline: when it closes, the guardian kills its whole tree.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import psutil

from models.errors import Invalid, NoSpace
from serve.processes import guardian
from serve.processes.logs import log_path, rotate, tail

ROOT = Path(__file__).resolve().parents[2]
_OUTPUT_BYTES = 64 * 1024  # a fault handler's report is followed by some kilobytes of other libraries' complaints
# What Python's fault handler writes to the log of a process that one of these signals ends.
_FAULTS = {
    "Illegal instruction": signal.SIGILL,
    "Segmentation fault": signal.SIGSEGV,
    "Floating-point exception": signal.SIGFPE,
    "Floating point exception": signal.SIGFPE,
    "Bus error": signal.SIGBUS,
    "Aborted": signal.SIGABRT,
}
_PREFIX = "Fatal Python error: "


@dataclass(frozen=True)
class Command:
    """A command: a name for logs and messages, arguments, environment, and the cores it may use (None: all).

    `inherited_files`: file descriptors that the program inherits under the same numbers. `log_prefix`: a pattern of
    what its log lines begin with. `consequences`: texts of log lines that only report the failure of another process.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    cores: tuple[int, ...] | None = None
    grace_s: float = 5.0
    inherited_files: tuple[int, ...] = ()
    log_prefix: str = ""
    consequences: tuple[str, ...] = ()


def own_command(
    name: str,
    *arguments: str,
    environment: Mapping[str, str],
    grace_s: float = 5.0,
    inherited_files: tuple[int, ...] = (),
) -> Command:
    """A command of our own, `python -m parley <arguments>`, from wherever the package is installed."""
    argv = (sys.executable, "-m", "parley", *arguments)
    return Command(name, argv, environment, grace_s=grace_s, inherited_files=inherited_files)


class Process:
    """A running command. Made by `spawn`."""

    def __init__(self, command: Command, log: Path, popen: "subprocess.Popen[bytes]") -> None:
        self.command = command
        self.log = log
        self._popen = popen
        self.log_start = log.stat().st_size if log.exists() else 0
        self._stop_deadline: float | None = None
        self._program: int | None = None

    @property
    def pid(self) -> int:
        """The guardian's pid; the tree is below it."""
        return self._popen.pid

    @property
    def program_pid(self) -> int | None:
        """The program's own pid once it runs."""
        below = guardian.descendants(self.pid)
        return below[0] if below else None

    def cpu_seconds(self, *, ended_only: bool = False) -> float:
        """CPU seconds used so far by the tree below the guardian: see `guardian.cpu_seconds`."""
        return guardian.cpu_seconds(self.pid, ended_only=ended_only)

    def wanted_seconds(self) -> dict[int, float]:
        """Thread id → seconds that it ran or waited for a core: see `guardian.wanted_seconds`."""
        return guardian.wanted_seconds(self.pid)

    def output_bytes(self) -> int:
        """Bytes that the tree has read from and written to disks, plus the size of its log."""
        return guardian.disk_bytes(self.pid) + (self.log.stat().st_size if self.log.exists() else 0)

    def is_frozen(self, *, whole_tree: bool = False) -> bool:
        """Whether the program, or anything in its tree, is stopped by a signal (SIGSTOP)."""
        if whole_tree:
            return bool(guardian.frozen(self.pid))
        # Looked up once, because reading the whole process table every second is expensive.
        self._program = self._program or self.program_pid
        return self._program is not None and guardian.is_frozen(self._program)

    def memory_bytes(self) -> int:
        """Resident memory of the tree below the guardian."""
        held = 0
        for pid in guardian.descendants(self.pid):
            with suppress(psutil.Error):
                held += psutil.Process(pid).memory_info().rss
        return held

    def exit_code(self) -> int | None:
        """None while it runs; then the program's status, 128 + signal where one ended it."""
        code = self._popen.poll()
        return code if code is None or code >= 0 else 128 - code

    def exit_reason(self) -> str:
        """How the program ended, with the last line of its log that tells more. Call it after `exit_code`."""
        reason = exit_reason(self.exit_code() or 0, self._output())
        words = self.last_words()
        return f"{reason}: {words}" if words else reason

    def ask_to_stop(self) -> None:
        """Starts to stop the tree without waiting: SIGTERM to the program, SIGKILL to all after the grace."""
        if self._popen.stdin and not self._popen.stdin.closed:
            with suppress(OSError):
                self._popen.stdin.close()
        if self._stop_deadline is None:
            self._stop_deadline = time.monotonic() + self.command.grace_s + 2

    def stop(self) -> int:
        """Stops the tree and waits until all of it is gone."""
        self.ask_to_stop()
        assert self._stop_deadline is not None
        try:
            self._popen.wait(max(self._stop_deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            guardian.kill_descendants(self.pid)
            self._popen.kill()
            self._popen.wait()
        return self.exit_code() or 0

    def kill(self) -> int:
        """Stops the tree without a grace, for a program that hangs."""
        guardian.kill_descendants(self.pid)
        return self.stop()

    def last_words(self) -> str:
        """The log line of this run that best explains its end, of 300 characters at most.

        That is the fault handler's error with its place, else the last line with an error, else the last line.
        """
        lines = [line.rstrip() for line in self._output().splitlines() if line.strip()]
        fatal = next((number for number in reversed(range(len(lines))) if lines[number].startswith(_PREFIX)), None)
        if fatal is not None:
            place = next((line.strip() for line in lines[fatal:] if line.startswith('  File "')), "")
            return ", ".join(filter(None, [lines[fatal], place]))[-300:]
        errors = [line for line in lines if "Error" in line and "Traceback" not in line]
        causes = [line for line in errors if not any(words in line for words in self.command.consequences)]
        return re.sub(f"^{self.command.log_prefix}", "", (causes or errors or lines or [""])[-1])[-300:]

    def _output(self) -> str:
        """The end of what this run wrote to its log."""
        return tail(self.log, self.log_start, _OUTPUT_BYTES)


def spawn(command: Command, logs: Path) -> Process:
    """Starts a command under a guardian; its output is appended to `logs/<name>.log`.

    Raises:
        NoSpace, Invalid: the log cannot be written.
    """
    log = log_path(logs, command.name)
    try:
        logs.mkdir(parents=True, exist_ok=True)
        rotate(log)
        output = log.open("ab")
    except OSError as error:
        kind = NoSpace if error.errno == 28 else Invalid
        raise kind(f"The log {log} cannot be written: {error.strerror}.") from error
    options = ["--grace", str(command.grace_s)]
    if command.cores:
        options += ["--cores", ",".join(map(str, command.cores))]
    if command.inherited_files:
        options += ["--pass", ",".join(map(str, command.inherited_files))]
    with output:
        popen = subprocess.Popen(
            [sys.executable, "-S", "-E", guardian.__file__, *options, "--", *command.argv],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=dict(command.environment) | {guardian.MARK: str(logs.parent)} if command.environment else None,
            cwd=ROOT,
            start_new_session=True,
            pass_fds=command.inherited_files,
        )
    return Process(command, log, popen)


def kill_strays(known: Collection[int]) -> list[int]:
    """Kills strays, which became children of this subreaper when their guardian was killed; returns their pids.

    Known guardians are left alone, and so are this process's own short programs, such as nvidia-smi, which are in its
    session. A guardian's programs have separate sessions.
    """
    strays = [pid for pid in guardian.children(os.getpid()) if pid not in known and not _is_in_this_session(pid)]
    for pid in strays:
        guardian.kill_descendants(pid)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    return strays


def _is_in_this_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return False


class Stoppable(Protocol):
    """Processes that can be stopped, on this machine or another one."""

    def ask_to_stop(self) -> None:
        """Starts to stop them without waiting."""
        ...

    def stop(self) -> int:
        """Stops them and waits until all are gone."""
        ...


def stop_all(processes: Sequence[Stoppable]) -> None:
    """Stops several processes at once and waits until all are gone."""
    for process in processes:
        process.ask_to_stop()
    for process in processes:
        process.stop()


def exit_reason(code: int, log: str) -> str:
    """A phrase to put behind the program's name, such as "was ended by SIGKILL (Killed)" or "ended with status 3".

    `code`: the exit status, 128 + the signal where one ended the program. `log`: what this run wrote. A program whose
    child was ended by a signal may exit with status 0; the child's fault handler then tells the signal.
    """
    if (number := code - 128) > 0 and number in set(signal.Signals):
        return f"was ended by {_name(signal.Signals(number))}"
    for name, fault in _FAULTS.items():
        if f"{_PREFIX}{name}" in log:
            return f"lost a process, ended by {_name(fault)}"
    return f"ended with status {code}"


def _name(number: signal.Signals) -> str:
    return f"{number.name} ({signal.strsignal(number)})"
