"""Runs a node's processes from the process that waits for them: attempts, their events and their outcomes."""

import json
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from os import getpid, killpg
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.errors import ParleyError
from train.run.folder import LOG
from train.run.node import Node
from train.run.progress import Checkpoint, Event, Progress, Stage, Step, Validation
from train.trainers.fit_job import FitJob, FitResult
from train.trainers.launch_worker import WorkerFailure, WorkerRequest

_EVENTS: Mapping[str, type[Event]] = MappingProxyType(
    {kind.__name__: kind for kind in (Stage, Step, Validation, Checkpoint)}
)
_GRACE_S = 10.0
_LOG_LINES = 60  # of the processes' standard error, copied into the log when they fail


class WorkerProcesses:
    """The agent of this node, which starts the processes of each attempt. A context manager that ends them all."""

    def __init__(self, device: str, threads: int, node: Node | None) -> None:
        self._threads, self._node = threads, node
        self._errors: deque[str] = deque(maxlen=_LOG_LINES)
        self._agent = subprocess.Popen(
            [sys.executable, "-m", "train.trainers.elastic_agent", device],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._errors.extend, args=(self._agent.stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> "WorkerProcesses":
        return self

    def __exit__(self, *error: object) -> None:
        assert self._agent.stdin
        with suppress(OSError):
            self._agent.stdin.close()
        terminate(self._agent, _GRACE_S)
        self._reader.join(_GRACE_S)

    def request(self, job: FitJob, attempt: int) -> WorkerRequest:
        """What the processes of an attempt receive."""
        threads = max(1, self._threads * job.nodes // job.processes)
        return WorkerRequest(job, threads, getpid(), attempt, self._node)

    def run(self, request: WorkerRequest, emit: Progress) -> FitResult | WorkerFailure:
        """Runs an attempt and returns how it ended on this node. Exceptions of `emit` end it."""
        job = request.job
        job.work.mkdir(parents=True, exist_ok=True)
        for stale in (request.outcome, request.abort):
            stale.unlink(missing_ok=True)
        path = job.work / "request"
        path.write_bytes(pickle.dumps(request))
        reason = self._wait(path, emit)
        outcome = pickle.loads(request.outcome.read_bytes()) if request.outcome.exists() else None  # noqa: S301 -- ours
        if isinstance(outcome, FitResult) and not reason:
            return outcome
        with (job.checkpoints.run_folder / LOG).open("a", encoding="utf-8") as log:
            log.writelines(list(self._errors))
        self._errors.clear()
        if isinstance(outcome, WorkerFailure) and "killed by" not in reason:
            return outcome
        return WorkerFailure(reason or "the processes ended without a result", "lost")

    def _wait(self, request: Path, emit: Progress) -> str:
        """Passes on the events of an attempt until it has ended; returns why it ended early, or ""."""
        assert self._agent.stdin
        assert self._agent.stdout
        with suppress(OSError):  # the agent is gone: its output has ended too
            self._agent.stdin.write(f"{request}\n")
            self._agent.stdin.flush()
        for line in self._agent.stdout:
            try:
                values = json.loads(line)
                if isinstance(values, dict) and values.get("event") == "Ended":
                    return str(values["reason"])
                event = _parse_event(values)
            except ValueError:
                continue  # a line that a library printed
            emit(event)
        raise ProcessesFailed(f"The training's agent exited with {self._agent.wait()}: {self._last_error()}")

    def _last_error(self) -> str:
        self._reader.join(_GRACE_S)
        return next((line.strip() for line in reversed(self._errors) if line.strip()), "it printed no error")


class ProcessesFailed(ParleyError):
    """The training's processes ended without a result; the message is from one of them."""


def _parse_event(line: Any) -> Event:
    if not isinstance(line, dict) or line.get("event") not in _EVENTS:
        raise ValueError
    kind = _EVENTS[line.pop("event")]
    if kind is Checkpoint:
        line["folder"] = Path(line["folder"])
    return kind(**line)


def terminate(child: subprocess.Popen[str], grace_s: float) -> None:
    """Ends a child and its process group, by force after the grace time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        with suppress(ProcessLookupError):
            killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
