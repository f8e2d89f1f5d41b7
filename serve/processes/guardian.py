"""The guardian: runs one program and leaves nothing of it behind, whoever dies first. It knows no Parley.

    python guardian.py [--grace SECONDS] [--cores 0,1] [--pass 7,8] -- PROGRAM ARGUMENT...

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
from typing import NamedTuple

MARK = "PARLEY_GUARDED"
_LOOKS, _LOOK_S = 100, 0.05
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
    return [one.pid for one in _below(root)]


def frozen(root: int) -> list[int]:
    """The pids below `root`, nearest first, that a signal has stopped (SIGSTOP), and nothing has continued."""
    return [one.pid for one in _below(root) if one.state == b"T"]


def is_frozen(pid: int) -> bool:
    """Whether a signal has stopped this very process, and nothing has continued it."""
    seen = _look(pid)
    return seen is not None and seen.state == b"T"


def children(root: int) -> list[int]:
    """The pids right below `root`, zombies included: they wait to be collected."""
    return [one.pid for one in _family().get(root, [])]


class _Seen(NamedTuple):
    """A process as /proc shows it. A pid comes again; a pid with its start (in clock ticks since boot) does not."""

    pid: int
    parent: int
    state: bytes
    started: bytes


def _below(root: int) -> list[_Seen]:
    family = _family()
    found: list[_Seen] = []
    unseen = [root]
    while unseen:
        children_here = [one for one in family.get(unseen.pop(0), []) if one.state not in (b"Z", b"X")]
        found += children_here
        unseen += [one.pid for one in children_here]
    return found


def _family() -> dict[int, list[_Seen]]:
    below: dict[int, list[_Seen]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and (one := _look(int(name))) is not None:
            below.setdefault(one.parent, []).append(one)
    return below


def _look(pid: int) -> _Seen | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            # pid (name, which may hold anything) state ppid ...; the 22nd is when it started
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Seen(pid, int(fields[1]), fields[0], fields[19])


def _kill(one: _Seen) -> None:
    """SIGKILL to that very process: should its number be another's by now, that one is left alone."""
    with suppress(ProcessLookupError, PermissionError):
        try:
            handle = os.pidfd_open(one.pid)
        except (AttributeError, OSError) as error:
            if isinstance(error, ProcessLookupError):
                return
            # A kernel without pidfd: the look right before is what can be had.
            if (now := _look(one.pid)) is not None and now.started == one.started:
                os.kill(one.pid, signal.SIGKILL)
            return
        try:
            # The handle is bound to whoever has the number now, so from here on it cannot change hands.
            if (now := _look(one.pid)) is not None and now.started == one.started:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def kill_marked(home: str) -> list[int]:
    """Kills what a guardian of this home has started in another life; returns the pids.

    To be called by whoever holds the home's lock, before he starts anything. A guardian marks what it starts in the
    environment, which outlives both of them.
    """
    mark = f"{MARK}={home}".encode()
    killed: dict[int, _Seen] = {}
    # Again until a look finds nothing more: they go a moment after the signal, and hold their ports until then.
    for _ in range(_LOOKS):
        found = [one for several in _family().values() for one in several if one.pid != os.getpid()]
        marked = [one for one in found if one.state not in (b"Z", b"X") and mark in _environment(one.pid)]
        if not marked:
            break
        for one in marked:
            _kill(one)
            killed[one.pid] = one
        time.sleep(_LOOK_S)
    return list(killed)


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            return stream.read().split(b"\0")
    except OSError:
        return []


def kill_tree() -> None:
    """SIGKILL to everything below this process, again until a look finds nothing more, and collects it."""
    while kill_tree_of_others(os.getpid()):
        reap()
        time.sleep(0.01)
    reap()


def kill_tree_of_others(root: int) -> bool:
    """SIGKILL to everything below `root`, without collecting anything; whether there was something."""
    found = _below(root)
    for one in found:
        _kill(one)
    return bool(found)


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


def guard(command: list[str], *, grace: float, cores: set[int] | None, passed: tuple[int, ...] = ()) -> int:
    """Runs `command` until it ends or is to end; returns its exit status. `passed`: open files that are its alone."""
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
    passed = tuple(map(int, chosen["--pass"].split(","))) if chosen.get("--pass") else ()
    return guard(command, grace=float(chosen.get("--grace", "5")), cores=cores, passed=passed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
