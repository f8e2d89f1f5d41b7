"""The guardian: runs one program and leaves none of its processes behind. Standard library only; it knows no Parley.

    python guardian.py [--grace SECONDS] [--cores 0,1] [--pass 7,8] -- PROGRAM ARGUMENT...

The program becomes the leader of its own session. The guardian is a subreaper: processes that the program starts and
abandons become the guardian's children, so that the whole tree can be found. The tree is killed (SIGTERM to the
program, a grace, then SIGKILL to all of it until nothing is left) when

- the guardian's standard input reaches its end, because the parent closed it or died;
- the guardian gets SIGTERM;
- the program exits and leaves processes behind.

The guardian exits with the program's status, or 128 + the signal that ended it. It is started by path with `python -S
-E` and is ready in about 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NamedTuple

MARK = "PARLEY_GUARDED"
_MAX_LOOKS, _LOOK_S = 100, 0.05
_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Makes this process the parent of orphans below it (Linux; elsewhere it does nothing)."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Makes the kernel kill this process when its parent ends (Linux; elsewhere it does nothing)."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """The pids below `root`, nearest first, without zombies. Reads /proc; empty where there is none."""
    return [process.pid for process in _descendants(root)]


def frozen(root: int) -> list[int]:
    """The pids below `root`, nearest first, that a signal has stopped (SIGSTOP)."""
    return [process.pid for process in _descendants(root) if process.state == b"T"]


def is_frozen(pid: int) -> bool:
    """Whether a signal has stopped this process (SIGSTOP)."""
    process = _read_process(pid)
    return process is not None and process.state == b"T"


def cpu_seconds(root: int, *, ended_only: bool = False) -> float:
    """CPU seconds used so far below `root`, including processes that have ended; reads /proc.

    A reaped process is counted in its parent's times, or in those of `root` if `root` adopted it. This includes
    short-lived processes, such as a compiler's.

    Args:
        ended_only: count only processes that have ended.
    """
    adopted = _read_process(root)
    ticks = adopted.ended_ticks if adopted else 0
    for process in _descendants(root, with_zombies=True):
        ticks += process.ended_ticks + (0 if ended_only else process.own_ticks)
    return ticks / os.sysconf("SC_CLK_TCK")


def wanted_seconds(root: int) -> dict[int, float]:
    """Thread id → seconds for which a thread below `root` ran or was runnable; empty if Linux does not count them.

    On a busy machine this grows even while a working thread waits for a core. Source: Linux,
    Documentation/scheduler/sched-stats.rst, `/proc/<pid>/schedstat`.
    """
    wanted = {}
    for pid in descendants(root):
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError, ValueError), open(f"/proc/{pid}/task/{thread}/schedstat", "rb") as stat:
                    ran, waited, _ = map(int, stat.read().split())
                    wanted[int(thread)] = (ran + waited) / 1e9
    return wanted


def disk_bytes(root: int) -> int:
    """Bytes that the running processes below `root` have read from and written to disks."""
    moved = 0
    for pid in descendants(root):
        with suppress(OSError, ValueError), open(f"/proc/{pid}/io", "rb") as counters:
            fields = dict(line.split(b": ") for line in counters.read().splitlines())
            moved += int(fields.get(b"read_bytes", 0)) + int(fields.get(b"write_bytes", 0))
    return moved


def children(root: int) -> list[int]:
    """The pids of the children of `root`, including zombies that wait to be reaped."""
    return [process.pid for process in _children_by_parent().get(root, [])]


class _ProcessInfo(NamedTuple):
    """A process in /proc. Pids are reused, so `started` (clock ticks since boot) tells two processes apart.

    `own_ticks`: its CPU time in clock ticks; `ended_ticks`: that of its children that have ended and been reaped.
    """

    pid: int
    parent: int
    state: bytes
    started: bytes
    own_ticks: int
    ended_ticks: int


def _descendants(root: int, *, with_zombies: bool = False) -> list[_ProcessInfo]:
    children_of = _children_by_parent()
    processes: list[_ProcessInfo] = []
    pending = [root]
    while pending:
        children_here = [
            process
            for process in children_of.get(pending.pop(0), [])
            if with_zombies or process.state not in (b"Z", b"X")
        ]
        processes += children_here
        pending += [process.pid for process in children_here]
    return processes


def _children_by_parent() -> dict[int, list[_ProcessInfo]]:
    children_of: dict[int, list[_ProcessInfo]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and (process := _read_process(int(name))) is not None:
            children_of.setdefault(process.parent, []).append(process)
    return children_of


def _read_process(pid: int) -> _ProcessInfo | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # pid (name, which may contain anything) state ppid ...; fields 14 to 17 are CPU times (user and system, own
            # and of children that ended), field 22 is the start time
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    own, ended = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return _ProcessInfo(pid, int(fields[1]), fields[0], fields[19], own, ended)


def _kill(process: _ProcessInfo) -> None:
    """Sends SIGKILL to this very process, not to a later one with the same pid."""
    with suppress(ProcessLookupError, PermissionError):
        try:
            handle = os.pidfd_open(process.pid)
        except (AttributeError, OSError) as error:
            if isinstance(error, ProcessLookupError):
                return
            # Without pidfd, a check right before the signal is the best there is.
            if (now := _read_process(process.pid)) is not None and now.started == process.started:
                os.kill(process.pid, signal.SIGKILL)
            return
        try:
            # The handle refers to whatever has the pid now and cannot change from here on.
            if (now := _read_process(process.pid)) is not None and now.started == process.started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def kill_marked(home: str) -> list[int]:
    """Kills processes that an earlier run of this home has left behind; returns their pids.

    Only for the holder of the home's lock, before it starts anything. Guardians mark what they start in the
    environment.
    """
    mark = f"{MARK}={home}".encode()
    killed: dict[int, _ProcessInfo] = {}
    # Repeated until none is found: a process takes a moment to die and keeps its port until then.
    for _ in range(_MAX_LOOKS):
        processes = [
            process for several in _children_by_parent().values() for process in several if process.pid != os.getpid()
        ]
        marked = [
            process for process in processes if process.state not in (b"Z", b"X") and mark in _environment(process.pid)
        ]
        if not marked:
            break
        for process in marked:
            _kill(process)
            killed[process.pid] = process
        time.sleep(_LOOK_S)
    return list(killed)


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return []


def kill_own_descendants() -> None:
    """Sends SIGKILL to everything below this process until nothing is left, and reaps it."""
    while kill_descendants(os.getpid()):
        reap()
        time.sleep(0.01)
    reap()


def kill_descendants(root: int) -> bool:
    """Sends SIGKILL to everything below `root` without reaping; returns whether there was anything."""
    processes = _descendants(root)
    for process in processes:
        _kill(process)
    return bool(processes)


def reap() -> dict[int, int]:
    """Reaps every child that has ended: pid → wait status."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def guard(command: list[str], *, grace: float, cores: set[int] | None, passed: tuple[int, ...] = ()) -> int:
    """Runs `command` until it ends or has to stop; returns its exit status. `passed`: file descriptors for it alone."""
    become_subreaper()
    if cores:
        with suppress(OSError, AttributeError):
            os.sched_setaffinity(0, cores)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    program = _start(command)
    for number in passed:
        os.close(number)
    watched = [0, wake_read]
    status = None
    while status is None and not stopping:
        readable, _, _ = select.select(watched, [], [])
        if 0 in readable and not os.read(0, 4096):
            break
        if wake_read in readable:
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
        status = reap().get(program)

    if status is None:
        with suppress(ProcessLookupError):
            os.kill(program, signal.SIGTERM)
        deadline = time.monotonic() + grace
        while status is None and time.monotonic() < deadline:
            select.select([wake_read], [], [], 0.05)
            with suppress(BlockingIOError):
                os.read(wake_read, 4096)
            status = reap().get(program)
    kill_own_descendants()
    if status is None:
        return 128 + signal.SIGKILL
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _start(command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        # If the guardian itself is killed, the program dies at once and its orphans fall to the parent.
        die_with_parent()
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 -- a list, no shell: this is what a guardian is for
    except BaseException as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr)
    os._exit(127)


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def main(arguments: list[str]) -> int:
    """Parses the command line; see the module's docstring."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    cores = {int(core) for core in chosen["--cores"].split(",")} if chosen.get("--cores") else None
    passed = tuple(map(int, chosen["--pass"].split(","))) if chosen.get("--pass") else ()
    return guard(command, grace=float(chosen.get("--grace", "5")), cores=cores, passed=passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
