"""A training as a job of the worker: the training runs in a process of its own, and the worker stays light.

The handler starts `python -m train.child` with the job's parameters, hands on what it tells, and ends the whole
process group when the job is cancelled. It loads no torch.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from models.errors import ParleyError
from models.jobs import Job
from models.settings import child_environment
from models.worker import JobContext

_GRACE_S = 5.0
_TAIL = 20  # lines of the child's own words that are kept for the error


class TrainingFailed(ParleyError):
    """The training's process ended with an error; the message is its own last word."""


def run_train_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Trains and publishes as the job's parameters say.

    Parameters (all JSON): `data` (a file), `base`, `name`; and where they are wanted `kind`, `validation`,
    `hyperparameters` (names as in `train.Hyperparameters`), `columns` (as in `train.Columns`), `threads`.

    Returns:
        The training's result, as result.json has it.

    Raises:
        TrainingFailed: what the training said. JobCancelled: the job was cancelled; its process is gone.
    """
    request = json.dumps(job.params | {"job": job.id})
    child = subprocess.Popen(
        [sys.executable, "-m", "train.child"],
        env=child_environment(context.settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert child.stdin
    assert child.stdout
    assert child.stderr
    spoken: list[str] = []
    listener = threading.Thread(target=_keep_tail, args=(child.stderr, spoken), daemon=True)
    listener.start()
    result: dict[str, Any] | None = None
    failure = ""
    watch = threading.Thread(target=_end_when_cancelled, args=(child, context), daemon=True)
    watch.start()
    try:
        with suppress(BrokenPipeError):  # it died before it could read: its last word, below, says why
            child.stdin.write(request)
            child.stdin.close()
        for line in child.stdout:
            event = json.loads(line)
            if "result" in event:
                result = event["result"]
            elif "error" in event:
                failure = event["error"]
            else:
                context.report(event.get("progress"), event.get("message"))
        child.wait()
        context.report(1.0 if result else None)  # raises where the end was the cancelling's doing
    finally:
        _end(child)
        listener.join(_GRACE_S)
    if result is None:
        last = next((line for line in reversed(spoken) if line.strip()), "no word")
        raise TrainingFailed(failure or f"The training's process ended with {child.returncode}: {last.strip()}")
    return result


def _end_when_cancelled(child: subprocess.Popen[str], context: JobContext) -> None:
    """The child may say nothing for long (loading, merging): a cancelling must not wait for its next word."""
    while child.poll() is None:
        if context.cancelled:
            _end(child)
            return
        threading.Event().wait(0.5)


def _end(child: subprocess.Popen[str]) -> None:
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
