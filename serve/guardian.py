"""The guardian: runs one program and leaves nothing of it behind, whoever dies first. It knows no Parley.

    python guardian.py [--grace SECONDS] [--cores 0,1] -- PROGRAM ARGUMENT...

The program becomes the leader of a session of its own. The guardian is a «subreaper»: whatever the program starts
and abandons becomes the guardian's child, so that the whole tree can be found. The tree is killed (SIGTERM to the
program, a grace, then SIGKILL to all of it, again until nothing is left) when

- the guardian's standard input reaches its end, because the parent closed it or died;
- the guardian gets SIGTERM;
- the program exits and leaves something behind.

The guardian exits with the program's status, or 128 + the signal that ended it. It is started by path with
`python -S -E`, imports nothing outside the standard library, and is ready in some 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from contextlib import suppress

_SET_PDEATHSIG = 1
_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Makes this process the one that orphans below it fall to (Linux; elsewhere it does nothing)."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends (Linux; elsewhere it does nothing)."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def descendants(root: int) -> list[int]:
    """The pids below `root`, nearest first, zombies left out. Reads /proc; empty where there is none."""
    below = _family()
    found, unseen = [], [root]
    while unseen:
        children_here = [pid for pid, state in below.get(unseen.pop(0), []) if state not in (b"Z", b"X")]
        found += children_here
        unseen += children_here
    return found


def children(root: int) -> list[int]:
    """The pids right below `root`, zombies included: they wait to be collected."""
    return [pid for pid, _ in _family().get(root, [])]


def _family() -> dict[int, list[tuple[int, bytes]]]:
    below: dict[int, list[tuple[int, bytes]]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                # pid (name, which may hold anything) state ppid ...
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append((int(name), fields[0]))
    return below


def kill_tree() -> None:
    """SIGKILL to everything below this process, again until a look finds nothing more, and collects it."""
    while kill_tree_of_others(os.getpid()):
        reap()
        time.sleep(0.01)
    reap()


def kill_tree_of_others(root: int) -> bool:
    """SIGKILL to everything below `root`, without collecting anything; whether there was something."""
    pids = descendants(root)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return bool(pids)


def reap() -> dict[int, int]:
    """Collects every child that has ended: pid → wait status."""
    ended = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def guard(command: list[str], *, grace: float, cores: set[int] | None) -> int:
    """Runs `command` until it ends or is to end; returns its exit status."""
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
    kill_tree()
    if status is None:
        return 128 + signal.SIGKILL
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _start(command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        # Should even the guardian be killed, the program goes at once, and what it abandons falls to the parent.
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
    """Reads the command line, see the top of the file."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    cores = {int(core) for core in chosen["--cores"].split(",")} if chosen.get("--cores") else None
    return guard(command, grace=float(chosen.get("--grace", "5")), cores=cores)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
