"""A run's folder: the names of its files, how to find a run, whether it was interrupted, and its lock. No torch.

<runs>/<ulid>/config.json       the request, and the value of every "auto"; once it exists, the run has begun
              data.json         the data's fingerprint: sha256 of the file, of the examples in order, and of the rows
              environment.json  Python, packages, device, threads, seed, git revision
              metrics.jsonl     one line per step, validation and checkpoint
              train.log         stages, and warnings of the libraries
              probes.json       the conversations on which the published weights are compared
              validation.jsonl  the held-out conversations as chat JSONL; evals reads it
              checkpoints/      step-N/, each complete or absent (`checkpoints`)
              adapter/          adapter_model.safetensors and adapter_config.json
              weights/          after full tuning instead: the whole model, as transformers and vLLM load it
              result.json       the TrainingResult, written last: without it the run has not finished
A run with config.json and without result.json was interrupted, and `train(…, resume=True)` continues it.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from models.atomic import atomic_write
from models.errors import Busy, Invalid, NoSpace, NotFound
from models.settings import Settings

CONFIG, METRICS, LOG, RESULT, ADAPTER = "config.json", "metrics.jsonl", "train.log", "result.json", "adapter"
DATA, ENVIRONMENT, CHECKPOINTS = "data.json", "environment.json", "checkpoints"
HELD_OUT = "validation.jsonl"
WEIGHTS = "weights"  # in the adapter's place after full tuning
_LOCK = ".lock"


def find_run(run: str | Path, settings: Settings) -> Path:
    """A run's folder, by its id or its path.

    Raises:
        NotFound: there is no such run; the message lists interrupted ones.
    """
    for folder in (settings.runs_dir / str(run), Path(run).expanduser()):
        if (folder / CONFIG).is_file():
            return folder.absolute()
    waiting = [folder.name for folder in sorted(settings.runs_dir.glob("*")) if interrupted(folder)]
    known = f"These did not end: {', '.join(waiting[-5:])}." if waiting else "No run is interrupted."
    raise NotFound(f"There is no run {str(run)!r}. {known}")


def interrupted(run_folder: Path) -> bool:
    """Whether a run began and did not end: `train(…, out=run_folder, resume=True)` continues it."""
    return (run_folder / CONFIG).is_file() and not (run_folder / RESULT).is_file()


@contextmanager
def lock_run(run_folder: Path) -> Iterator[None]:
    """Holds a run's folder, so that no second process writes to it. The lock ends with the process, even on a kill.

    Raises:
        Busy: another process holds it.
    """
    handle = os.open(run_folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"The run {run_folder.name} is active in another process: wait for it, or cancel it."
            raise Busy(message) from error
        yield
    finally:
        os.close(handle)


def no_space(run_folder: Path) -> NoSpace:
    """The error for a disk that filled up while a run began, trained or was published."""
    if not (run_folder / CONFIG).is_file():
        return NoSpace(f"No space left for the run in {run_folder}: free some, and try again.")
    return NoSpace(
        f"No space left for the run in {run_folder}: free some, then `parley train --resume {run_folder.name}` "
        "continues from the last complete checkpoint, or publishes the finished result."
    )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON file atomically."""
    atomic_write(path, (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads one of a run's JSON files.

    Raises:
        Invalid: it is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: the run cannot be resumed without it.", param="run") from error
