"""Starts a fit, in this process or on several, and retries it with a smaller micro-batch when memory runs out.

Several processes are started by accelerate's launcher, one for each GPU, and the first one reports. Only the fit is
shared: data, folders and publication stay with this process. A batch is divided among the processes, so that a step
learns from as many rows as on one. On a CPU the processes talk over gloo, which shows that it works and is no faster.
`launch_worker` is what each process runs.
"""

import gc
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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.errors import ParleyError
from train.run.checkpoints import plan_checkpoints
from train.run.failures import OutOfMemory, memory_is_full
from train.run.folder import LOG
from train.run.progress import Checkpoint, Event, Progress, Stage, Step, Validation
from train.trainers.fit_job import FEWEST_ROWS, FitJob, FitResult

_EVENTS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in (Stage, Step, Validation, Checkpoint)}
_GRACE_S = 10.0
_LOG_LINES = 60  # of the processes' standard error, copied into the log when they fail


class ProcessesFailed(ParleyError):
    """The training's processes ended without a result; the message is from one of them."""


@dataclass(frozen=True)
class WorkerRequest:
    """What each process receives; `parent` is the process that waits for it."""

    job: FitJob
    threads: int
    parent: int


@dataclass(frozen=True)
class WorkerFailure:
    """Why a process failed. `rows` is the micro-batch that did not fit, if `memory` ran out."""

    message: str
    memory: bool = False
    rows: int = 0


def launch(job: FitJob, tokenizer: Any, threads: int, emit: Progress) -> FitResult:
    """Runs a fit. When a step does not fit into memory, halves the micro-batch and resumes from the last checkpoint.

    A step still learns from the same number of rows, in more parts. KTO compares two rows at least.

    Args:
        tokenizer: the base's; several processes load their own.
        threads: CPU threads of all processes together.

    Raises:
        OutOfMemory: a single row does not fit. ProcessesFailed. What `fit` and `emit` raise.
    """
    from train.trainers.fit import fit  # here, because bitsandbytes and others warn when they are imported

    fewest, failed = FEWEST_ROWS.get(job.hyperparameters.method, 1), 0
    while True:
        try:
            return _launch_processes(job, threads, emit) if job.processes > 1 else fit(job, tokenizer, emit)
        except OutOfMemory as error:
            rows = error.rows_at_once
            if rows <= fewest or rows == failed:  # no smaller micro-batch divides the batch
                raise
        except Exception as error:
            if memory_is_full(error):
                raise OutOfMemory() from error
            raise
        # Outside the except clause, where the exception no longer references what did not fit.
        _free_memory()
        failed, rows_at_most = rows, max(fewest, rows // 2)
        smaller = f"{rows_at_most} at a time from now on, and a step still learns from the same number"
        emit(Stage(f"Out of memory with {rows} rows at a time: {smaller}"))
        plan = plan_checkpoints(job.checkpoints.run_folder, job.checkpoints.every, emit)
        job = replace(job, checkpoints=replace(plan, rows_at_most=rows_at_most))


def _launch_processes(job: FitJob, threads: int, emit: Progress) -> FitResult:
    job.work.mkdir(parents=True, exist_ok=True)
    request, outcome = job.work / "request", job.work / "outcome"
    outcome.unlink(missing_ok=True)
    request.write_bytes(pickle.dumps(WorkerRequest(job, max(1, threads // job.processes), os.getpid())))
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1",
        "--num_processes", str(job.processes), "--main_process_port", "0", "--mixed_precision", "no",
        "--dynamo_backend", "no", "--module", "train.trainers.launch_worker", str(request),
    ]  # fmt: skip
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert child.stdout
    assert child.stderr
    errors: deque[str] = deque(maxlen=_LOG_LINES)
    reader = threading.Thread(target=errors.extend, args=(child.stderr,), daemon=True)
    reader.start()
    try:
        for line in child.stdout:
            with suppress(ValueError):  # what a library prints is not an event
                emit(_parse_event(json.loads(line)))
        child.wait()
    finally:
        terminate(child, _GRACE_S)
    reader.join(_GRACE_S)
    result = pickle.loads(outcome.read_bytes()) if outcome.exists() else None  # noqa: S301 -- written by our own process
    if isinstance(result, FitResult):
        return result
    log = job.checkpoints.run_folder / LOG
    with log.open("a", encoding="utf-8") as file:
        file.writelines(errors)
    if result is None:
        raise ProcessesFailed(f"The training's processes ended with {child.returncode}; see {log}.")
    if result.memory:
        raise OutOfMemory(result.rows)
    raise ProcessesFailed(result.message)


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
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
