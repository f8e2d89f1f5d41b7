"""A training as a job of the worker: the training runs in a process of its own, and the worker stays light.

`run_child` starts `python -m train.worker.child` with a request, passes its lines on, and ends the process group on a
stop. It loads no torch.
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
from models.jobs import Job
from models.settings import Settings, child_environment
from models.worker import JobContext
from train.run.progress import duration

_GRACE_S = 5.0
_TAIL = 20  # lines of the child's own words that are kept for the error
_EVERY_S = 0.5  # steps are told this often at most: each is a write to the database
Line = Mapping[str, Any]


class TrainingFailed(ParleyError):
    """The training's process ended with an error; the message is its own last word."""


def run_train_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Trains and publishes as the job's parameters say.

    Parameters (all JSON): `data` (a file), `base`, `name`; and where they are wanted `kind`, `method`, `validation`,
    `hyperparameters` (names as in `train.Hyperparameters`), `columns` (as in `train.Columns`), `threads`, `trackers`,
    `gpus`.
    The run's folder is called as the job, and a job that is taken up again goes on from its last checkpoint.

    Returns:
        The training's result, as result.json has it.

    Raises:
        TrainingFailed: what the training said. JobCancelled: the job was cancelled; its process is gone.
    """
    values = {"request": job.params | {"job": job.id}, "out": str(context.settings.runs_dir / job.id)}
    return run_child("train.worker.child", values, context, _Reports(context))


def run_child(
    module: str, values: Mapping[str, Any], context: JobContext, listen: Callable[[Line], None]
) -> dict[str, Any]:
    """Runs one training in a process of its own.

    Args:
        module: the child's module, such as `train.worker.child`. values: its input.
        listen: receives every line of the child; an exception that it raises ends the training.

    Raises:
        TrainingFailed: what the training said. JobCancelled: it was to stop; its process is gone.
    """
    child = _start(module, context.settings)
    assert child.stdin
    assert child.stdout
    assert child.stderr
    spoken: list[str] = []
    listener = threading.Thread(target=_keep_tail, args=(child.stderr, spoken), daemon=True)
    listener.start()
    result: dict[str, Any] | None = None
    failure: dict[str, Any] = {}
    watch = threading.Thread(target=_end_when_cancelled, args=(child, context), daemon=True)
    watch.start()
    try:
        with suppress(BrokenPipeError):  # it died before it could read: its last word, below, says why
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
        context.report()  # raises where the end was the cancelling's doing
    finally:
        _end(child)
        listener.join(_GRACE_S)
    if result is None:
        raise TrainingFailed(
            failure.get("error") or _last_word(child.returncode, spoken),
            code=failure.get("code"),
            param=failure.get("param"),
        )
    return result


def _last_word(returncode: int, spoken: list[str]) -> str:
    if returncode == -signal.SIGKILL:
        return (
            "The training's process was killed, as the system does where memory runs out: lower max_length or "
            "batch_size, hold the base in 4 bits (qlora), or take a smaller base."
        )
    last = next((line for line in reversed(spoken) if line.strip()), "no word")
    return f"The training's process ended with {returncode}: {last.strip()}"


class _Reports:
    """Turns a training's lines into the job's progress; the last hundredth is the publication's."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._last = 0.0

    def __call__(self, line: Line) -> None:
        if "stage" in line:
            self._context.report(message=line["stage"])
        elif "validation" in line:
            told = line["validation"]
            self._context.report(message=f"validation loss {told['loss']:.3f} at step {told['step']}")
        elif "step" in line:
            step = line["step"]
            if time.monotonic() - self._last > _EVERY_S or step["step"] == step["steps"]:
                self._last = time.monotonic()
                self._context.report(*reported(step))


def reported(step: Line) -> tuple[float, str]:
    """A step as a job's progress (0 to 0.99) and message."""
    left = duration(step["seconds_left"])
    message = f"step {step['step']}/{step['steps']}, loss {step['loss']:.3f}, {left} left"
    return 0.99 * step["step"] / step["steps"], message


def _start(module: str, settings: Settings) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module],
        # Threads that sleep while they wait: where engines or others use the cores too, spinning ones made the same
        # small training 30 times slower (61 s instead of 1.9 s on two busy cores).
        env=child_environment(settings, OMP_WAIT_POLICY="PASSIVE"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _end_when_cancelled(child: "subprocess.Popen[str]", context: JobContext) -> None:
    """The child may say nothing for long (loading, merging): a cancelling must not wait for its next word."""
    while child.poll() is None:
        if context.cancelled:
            _end(child)
            return
        threading.Event().wait(0.5)


def _end(child: "subprocess.Popen[str]") -> None:
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_GRACE_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _keep_tail(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)
        del lines[:-_TAIL]
