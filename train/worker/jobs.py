"""A training as a worker job: it runs in a child process, and the worker stays light. No torch.

`run_child` starts the child with a request, passes its lines on, and ends its process group when the job is stopped.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

from models.errors import ParleyError
from models.jobs.jobs import Job
from models.jobs.worker import JobContext
from models.settings.environment import child_environment
from models.settings.settings import Settings
from train.run.progress import duration
from train.trainers.worker_processes import terminate

_GRACE_S = 5.0
_ERROR_LINES = 20  # of the child's standard error, kept for the message
_LESS_MEMORY = "lower max_length or batch_size, hold the base in 4 bits (qlora), or choose a smaller base"
_EVERY_S = 0.5  # between reports of steps, each a write to the database
Line = Mapping[str, Any]


class JobProcessFailed(ParleyError):
    """A job's process ended with an error; the message is its last line."""


def run_train_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Trains and publishes as the job's parameters say.

    The parameters are those that `TrainingRequest.from_json` reads: `data`, `base`, `name`, and optional ones. The
    run's folder is named after the job, and a job that is restarted continues from its last checkpoint.

    Returns:
        The content of result.json.

    Raises:
        JobProcessFailed: the training's error. JobCancelled: the job was cancelled; its process is gone.
    """
    values = {"request": job.params | {"job": job.id}, "out": str(context.settings.runs_dir / job.id)}
    return run_child("train.worker.child", values, context, ProgressReporter(context))


def run_child(
    module: str,
    values: Mapping[str, Any],
    context: JobContext,
    listen: Callable[[Line], None],
    advice: str = _LESS_MEMORY,
) -> dict[str, Any]:
    """Runs one job in a process of its own.

    Args:
        module: the child's module, such as `train.worker.child`. values: its input.
        listen: receives every line of the child; an exception that it raises ends the job.
        advice: what to do if memory runs out, as a part of a sentence; by default for trainings.

    Raises:
        JobProcessFailed: the job's error. JobCancelled: the job is to stop; its process is gone.
    """
    child = _start(module, context.settings)
    assert child.stdin
    assert child.stdout
    assert child.stderr
    errors: list[str] = []
    listener = threading.Thread(target=_collect_errors, args=(child.stderr, errors), daemon=True)
    listener.start()
    result: dict[str, Any] | None = None
    failure: dict[str, Any] = {}
    watch = threading.Thread(target=_terminate_when_cancelled, args=(child, context), daemon=True)
    watch.start()
    try:
        with suppress(BrokenPipeError):  # the child died before it read the request; its standard error says why
            child.stdin.write(json.dumps(values))
            child.stdin.close()
        for text in child.stdout:
            line = json.loads(text)
            if "result" in line:
                result = line["result"]
            elif "error" in line:
                failure = line
            else:
                listen(line)
        child.wait()
        context.report()  # raises JobCancelled if a cancel ended the child
    finally:
        terminate(child, _GRACE_S)
        listener.join(_GRACE_S)
    if result is None:
        raise JobProcessFailed(
            failure.get("error") or _exit_message(child.returncode, errors, advice),
            code=failure.get("code"),
            param=failure.get("param"),
        )
    return result


def _exit_message(returncode: int, errors: list[str], advice: str) -> str:
    if returncode == -signal.SIGKILL:
        return f"The job's process was killed, probably because memory ran out: {advice}."
    last = next((line for line in reversed(errors) if line.strip()), "no output")
    return f"The job's process ended with {returncode}: {last.strip()}"


class ProgressReporter:
    """Reports a training's lines as the job's progress; the last percent is for the publication."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._last = 0.0

    def __call__(self, line: Line) -> None:
        if "stage" in line:
            self._context.report(message=line["stage"])
        elif "validation" in line:
            validation = line["validation"]
            self._context.report(message=f"validation loss {validation['loss']:.3f} at step {validation['step']}")
        elif "step" in line:
            step = line["step"]
            if time.monotonic() - self._last > _EVERY_S or step["step"] == step["steps"]:
                self._last = time.monotonic()
                self._context.report(*describe_step(step))


def describe_step(step: Line) -> tuple[float, str]:
    """A job's progress (0 to 0.99) and message after a step."""
    left = duration(step["seconds_left"])
    message = f"step {step['step']}/{step['steps']}, loss {step['loss']:.3f}, {left} left"
    return 0.99 * step["step"] / step["steps"], message


def _start(module: str, settings: Settings) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        # The child cannot ask for its parent: this process may be gone before the child's imports are done.
        [sys.executable, "-m", module, str(os.getpid())],
        # Waiting threads sleep: on two busy cores, spinning threads made a small training 30 times slower (61 s instead
        # of 1.9 s).
        env=child_environment(settings, OMP_WAIT_POLICY="PASSIVE"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _terminate_when_cancelled(child: "subprocess.Popen[str]", context: JobContext) -> None:
    """A cancel must not wait for the child's next line, because loading and merging print none for long."""
    while child.poll() is None:
        if context.cancelled:
            terminate(child, _GRACE_S)
            return
        threading.Event().wait(0.5)


def _collect_errors(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)
        del lines[:-_ERROR_LINES]
