"""A training on several processes, one for each GPU: accelerate's launcher starts them, the first one tells.

Only the training itself (`fitting.fit`) is shared; data, folders and publishing stay with the process that was asked.
A batch is divided among the processes, so that a step learns from as many rows as it would on one. On a CPU the
processes speak over gloo, which shows that it works and is no faster.

What each of the processes does is in `launched`.
"""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ParleyError
from train.run.failures import OutOfMemory
from train.run.progress import Checkpoint, Event, Progress, Stage, Step, Validation
from train.run.result import LOG

if TYPE_CHECKING:
    from train.trainers.fit import Fitted

_EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in (Stage, Step, Validation, Checkpoint)}
_GRACE_S = 10.0
_TAIL = 60  # lines of what the processes say that go into the log where they die without a word


class ProcessesFailed(ParleyError):
    """The training's processes ended without a result; the message is what one of them said."""


@dataclass(frozen=True)
class Request:
    """What each process is told: `fit`'s arguments but for the listener, how many threads, and who waits for it."""

    arguments: dict[str, Any]
    threads: int
    parent: int


def fit_on_several(threads: int, progress: Progress, **arguments: Any) -> "Fitted":
    """`fitting.fit` with the same arguments but the tokenizer, on as many processes as `place` says.

    Args:
        threads: CPU threads of all together.
        progress: told what the first process tells.

    Raises:
        ProcessesFailed: one line. OutOfMemory. What `progress` raises, after the processes have ended.
    """
    processes, work = arguments["place"].processes, arguments["place"].work
    work.mkdir(parents=True, exist_ok=True)
    request, outcome = work / "request", work / "outcome"
    outcome.unlink(missing_ok=True)
    request.write_bytes(pickle.dumps(Request(arguments, max(1, threads // processes), os.getpid())))
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
        "--num_processes", str(processes), "--main_process_port", "0", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--module", "train.trainers.launch_worker", str(request),
    ]  # fmt: skip
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    said: deque[str] = deque(maxlen=_TAIL)
    assert child.stdout
    assert child.stderr
    listener = threading.Thread(target=said.extend, args=(child.stderr,), daemon=True)
    listener.start()
    try:
        for line in child.stdout:
            with suppress(ValueError):  # what a library prints is no event
                progress(_event(json.loads(line)))
        child.wait()
    finally:
        _end(child)
    listener.join(_GRACE_S)
    found = pickle.loads(outcome.read_bytes()) if outcome.exists() else None  # noqa: S301 -- our own process wrote it
    if found is not None and not isinstance(found, dict):
        return found
    log = arguments["keeping"].run_folder / LOG
    with log.open("a", encoding="utf-8") as file:
        file.writelines(said)
    if found is None:
        raise ProcessesFailed(f"The training's processes ended with {child.returncode}; see {log}.")
    if found["memory"]:
        raise OutOfMemory(found["rows"])
    raise ProcessesFailed(found["error"])


def _event(line: Any) -> Event:
    if not isinstance(line, dict) or line.get("event") not in _EVENTS:
        raise ValueError
    kind = _EVENTS[line.pop("event")]
    if kind is Checkpoint:
        line["folder"] = Path(line["folder"])
    return kind(**line)


def _end(child: subprocess.Popen[str]) -> None:
    """Ends the launcher and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE_S)
