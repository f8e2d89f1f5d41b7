"""No process is left behind, whichever dies first: guardian, program, or the parent that holds the pipe."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path

import pytest

from serve.processes import guardian
from serve.processes.children import Command, kill_strays, spawn

# A program that abandons a grandchild in its own session, and can ignore SIGTERM.
FAMILY = """
import os, signal, subprocess, sys, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sh", "-c", "setsid sleep 300 & exec setsid sleep 300"], start_new_session=True)
print("up", os.getpid(), flush=True)
time.sleep(0.3)
sys.exit(3) if "leave" in sys.argv else time.sleep(300)
"""


def command(*arguments: str, grace_s: float = 0.5) -> Command:
    return Command("family", (sys.executable, "-c", FAMILY, *arguments), dict(os.environ), grace_s=grace_s)


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pids: Collection[int]) -> list[int]:
    running = []
    for pid in pids:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                running.append(pid)
        except FileNotFoundError:
            continue
    return running


@pytest.mark.long
@pytest.mark.parametrize("arguments", [(), ("deaf",)])
def test_stopping_takes_the_whole_tree(tmp_path: Path, arguments) -> None:
    process = spawn(command(*arguments), tmp_path)
    wait_until(lambda: len(guardian.descendants(process.pid)) >= 3)
    tree = guardian.descendants(process.pid)
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 4
    assert alive(tree) == []


@pytest.mark.long
def test_a_program_that_ends_leaves_nothing_and_its_status_is_reported(tmp_path: Path) -> None:
    process = spawn(command("leave"), tmp_path)
    wait_until(lambda: len(guardian.descendants(process.pid)) >= 3)
    tree = guardian.descendants(process.pid)
    wait_until(lambda: process.exit_code() is not None)
    assert process.exit_code() == 3
    assert alive(tree) == []
    assert process.last_words().startswith("up ")


def test_a_killed_program_reads_as_128_and_its_signal(tmp_path: Path) -> None:
    process = spawn(command(), tmp_path)
    wait_until(lambda: process.program_pid is not None)
    wait_until(lambda: "up" in process.last_words())
    assert process.program_pid is not None
    os.kill(process.program_pid, signal.SIGKILL)
    wait_until(lambda: process.exit_code() is not None)
    assert process.exit_code() == 137
    assert process.exit_reason() == f"was ended by SIGKILL (Killed): {process.last_words()}"


def test_a_signal_that_ended_a_child_is_in_the_reason(tmp_path: Path) -> None:
    """As vLLM's API server: it exits with status 0 once its engine core is gone, without knowing why."""
    child = "import ctypes, os, signal; os.kill(os.getpid(), signal.SIGILL)"
    program = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-X', 'faulthandler', '-c', {child!r}])\n"
        "print('leaked\\n' * 2000)\n"
        "print('EngineDeadError: the core is gone')"
    )
    process = spawn(Command("parent", (sys.executable, "-c", program)), tmp_path)
    wait_until(lambda: process.exit_code() is not None)
    assert process.exit_code() == 0
    assert process.exit_reason() == (
        "lost a process, ended by SIGILL (Illegal instruction): "
        'Fatal Python error: Illegal instruction, File "<string>", line 1 in <module>'
    )


@pytest.mark.long
def test_a_killed_parent_takes_everything_along(tmp_path: Path) -> None:
    script = (
        "import os, sys, time; from pathlib import Path; from tests.serve.test_guardian import command, spawn\n"
        f"spawn(command('deaf'), Path({str(tmp_path)!r})); spawn(command(), Path({str(tmp_path)!r})); time.sleep(300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    wait_until(lambda: len(guardian.descendants(parent.pid)) >= 8)
    tree = guardian.descendants(parent.pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: alive(tree) == [], timeout_s=5)


@pytest.mark.long
def test_a_killed_guardians_family_falls_to_the_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from serve.processes import guardian\n"
        "from serve.processes.children import kill_strays\n"
        "from tests.serve.test_guardian import command, spawn\n"
        "guardian.become_subreaper()\n"
        f"kept = [spawn(command(), Path({str(tmp_path)!r})) for _ in range(2)]\n"
        "while True: kill_strays({one.pid for one in kept if one.exit_code() is None}); time.sleep(0.2)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    try:
        wait_until(lambda: len(guardian.descendants(parent.pid)) >= 8)
        victim, other = guardian.children(parent.pid)
        family, rest = guardian.descendants(victim), guardian.descendants(other)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: alive(family) == [], timeout_s=5)
        assert alive(rest) == rest
    finally:
        parent.kill()
        parent.wait()


def test_known_guardians_and_own_programs_are_not_strays() -> None:
    """Such as nvidia-smi, or the process that inspects a chat template, which takes seconds on a busy machine."""
    known = guardian.children(os.getpid())
    own, orphan = (subprocess.Popen(["sleep", "300"], start_new_session=apart) for apart in (False, True))
    try:
        assert kill_strays(known) == [orphan.pid]
        assert own.poll() is None
    finally:
        own.kill()
        own.wait()


def test_it_is_there_in_milliseconds(tmp_path: Path) -> None:
    began = time.monotonic()
    process = spawn(Command("quick", ("true",), dict(os.environ)), tmp_path)
    while process.exit_code() is None:
        time.sleep(0.001)
    assert process.exit_code() == 0
    assert time.monotonic() - began < 0.5


def test_a_program_that_is_not_there_is_reported(tmp_path: Path) -> None:
    process = spawn(Command("nothing", ("/no/such/program",), dict(os.environ)), tmp_path)
    wait_until(lambda: process.exit_code() is not None)
    assert process.exit_code() == 127
    assert "/no/such/program" in process.last_words()


def test_a_number_that_is_anothers_now_is_left_alone(tmp_path: Path) -> None:
    process = spawn(command(), tmp_path)
    wait_until(lambda: len(guardian.descendants(process.pid)) >= 3)
    (program, *_) = guardian._descendants(process.pid)
    guardian._kill(program._replace(started=b"1"))
    time.sleep(0.1)
    assert process.exit_code() is None
    guardian._kill(program)
    wait_until(lambda: process.exit_code() is not None)


def marked(pids: Collection[int]) -> set[int]:
    """The pids with the mark of a home; just after its start a program has no environment yet."""
    marked_pids = set()
    for pid in pids:
        with suppress(OSError):  # it has ended
            if guardian.MARK.encode() in Path(f"/proc/{pid}/environ").read_bytes():
                marked_pids.add(pid)
    return marked_pids


def test_processes_of_an_earlier_start_are_found_by_their_mark(tmp_path: Path) -> None:
    process = spawn(command(), tmp_path / "logs")
    wait_until(lambda: len(marked(guardian.descendants(process.pid))) >= 3)
    tree = marked(guardian.descendants(process.pid))
    assert guardian.kill_marked(str(tmp_path / "other")) == []
    assert tree <= set(guardian.kill_marked(str(tmp_path)))
    wait_until(lambda: alive(tree) == [])
    process.stop()


def test_a_program_that_a_signal_has_stopped_is_seen_and_can_be_stopped_for_good(tmp_path: Path) -> None:
    process = spawn(command(), tmp_path)
    wait_until(lambda: len(guardian.descendants(process.pid)) >= 3)
    tree = guardian.descendants(process.pid)
    assert not process.is_frozen(whole_tree=True)
    os.kill(tree[-1], signal.SIGSTOP)
    wait_until(lambda: process.is_frozen(whole_tree=True))
    assert not process.is_frozen()
    os.kill(tree[0], signal.SIGSTOP)
    wait_until(process.is_frozen)
    began = time.monotonic()
    process.kill()
    assert time.monotonic() - began < 2
    assert alive(tree) == []
