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

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.errors import Invalid, NoSpace, NotFound
from models.files.atomic import atomic_write, lock_file
from models.settings.settings import Settings
from train.data.conversations import Problem

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


def lock_run(run_folder: Path) -> AbstractContextManager[None]:
    """Holds a run's folder for a block, so that no second process writes to it. Raises Busy if another one does."""
    return lock_file(
        run_folder / _LOCK, f"The run {run_folder.name} is active in another process: wait for it, or cancel it."
    )


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


@dataclass(frozen=True)
class TrainingResult:
    """What a run produced and how it went. Losses are in nats per learnt token, times in seconds.

    Attributes:
        measured_on: which examples the losses before and after are from.
        tokens: tokens processed over all epochs, without padding; `learnt_tokens` of them carried loss.
        adapter: the folder of the trained adapter, or of the whole weights if `full`.
        accuracy_after, margin_after: measured with `loss_after` (see `progress.Step`).
        best_step: the step that early stopping went back to.
        peak_memory_bytes: of the GPU if it trained on one, else of the process.
        model, kind, model_folder: set once it is published.
    """

    run_folder: Path
    adapter: Path
    base: str
    base_location: str
    parent: str | None
    name: str | None
    loss_before: float
    loss_after: float
    measured_on: Literal["validation", "training"]
    examples: int
    validation_examples: int
    epochs: float
    steps: int
    tokens: int
    learnt_tokens: int
    seconds: float
    tokens_per_s: float
    hyperparameters: dict[str, Any]
    reasons: dict[str, str]
    masks: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    model: str | None = None
    kind: str | None = None
    model_folder: Path | None = None
    method: str = "sft"
    accuracy_after: float | None = None
    margin_after: float | None = None
    best_step: int | None = None
    peak_memory_bytes: int | None = None

    @property
    def full(self) -> bool:
        """Whether every weight was tuned: then the output is a whole model instead of an adapter."""
        return self.hyperparameters.get("tune") == "full"

    def to_json(self) -> dict[str, Any]:
        """The content of result.json."""
        return asdict(self) | {
            "run_folder": str(self.run_folder),
            "adapter": str(self.adapter),
            "model_folder": str(self.model_folder) if self.model_folder else None,
        }

    def save(self) -> None:
        """Writes result.json atomically."""
        write_json(self.run_folder / RESULT, self.to_json())

    def published(self, model: str, kind: str, folder: Path) -> "TrainingResult":
        """The same result, with the model that it is published as."""
        return replace(self, model=model, kind=kind, model_folder=folder)


def load_result(run_folder: Path) -> TrainingResult:
    """The result of a finished run.

    Raises:
        Invalid: the folder holds no run, or the run has not finished.
    """
    try:
        values = json.loads((run_folder / RESULT).read_text("utf-8"))
    except FileNotFoundError as error:
        raise Invalid(f"{run_folder} holds no finished training run.", param="run") from error
    values["problems"] = tuple(Problem(**problem) for problem in values["problems"])
    values["masks"] = tuple(values["masks"])
    # The folder may have been moved since: its parts are found relative to where it is now.
    full = values["hyperparameters"].get("tune") == "full"
    values |= {"run_folder": run_folder, "adapter": run_folder / (WEIGHTS if full else ADAPTER)}
    values["model_folder"] = Path(values["model_folder"]) if values["model_folder"] else None
    return TrainingResult(**values)


def load_finished(run_folder: Path) -> TrainingResult | None:
    """The result of a finished run; None if it has not finished or not begun."""
    return load_result(run_folder) if (run_folder / RESULT).is_file() else None
