"""A run's folder and its result: what was asked, what was measured, where the adapter is. Light to import.

<runs>/<ulid>/config.json       what was asked, and what every "auto" became; where it stands, the run has begun
              data.json         the data's fingerprint: sha256 of the file, of the examples in order, and of the rows
              environment.json  Python, packages, device, threads, seed, git revision
              metrics.jsonl     one line a step, a validation, a checkpoint
              train.log         stages, and the libraries' warnings
              probes.json       the conversations that the published weights are compared on
              validation.jsonl  the conversations that were held out, as chat JSONL; evals reads it
              checkpoints/      step-N/, each whole or not at all (`checkpoints`)
              adapter/          adapter_model.safetensors and adapter_config.json
              weights/          instead of it after full tuning: the whole model, as transformers and vLLM load it
              result.json       the TrainingResult, written last: without it the run has not finished
A run that has config.json and no result.json was interrupted, and goes on with `train(…, resume=True)` (`resuming`).
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.atomic import atomic_write
from models.errors import Invalid
from train.data.conversations import Problem

CONFIG, METRICS, LOG, RESULT, ADAPTER = "config.json", "metrics.jsonl", "train.log", "result.json", "adapter"
DATA, ENVIRONMENT, CHECKPOINTS = "data.json", "environment.json", "checkpoints"
HELD_OUT = "validation.jsonl"
WEIGHTS = "weights"  # the folder after full tuning, in the adapter's place


@dataclass(frozen=True)
class TrainingResult:
    """What a run made, and how it went. Losses in nats per learnt token, times in seconds.

    `measured_on` says which examples the losses before and after are from. `tokens` counts what went through the
    model over all epochs, padding left out; `learnt_tokens` those of them that carried loss. `adapter` is the folder of
    what was trained: an adapter's, or whole weights where `full`. `accuracy_after` and `margin_after` go with
    `loss_after` (see `progress.Step`); `best_step` is the step that an early stop went back to. `peak_memory_bytes` is
    the GPU's where it trained on one, else the process's. `model` and `model_folder` are set once it is published.
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
        """Whether every weight was tuned: then there is no adapter, and what was trained is a whole model."""
        return self.hyperparameters.get("tune") == "full"

    def as_json(self) -> dict[str, Any]:
        """As result.json has it."""
        return asdict(self) | {
            "run_folder": str(self.run_folder),
            "adapter": str(self.adapter),
            "model_folder": str(self.model_folder) if self.model_folder else None,
        }

    def save(self) -> None:
        """Writes result.json, whole."""
        write_json(self.run_folder / RESULT, self.as_json())

    def published(self, model: str, kind: str, folder: Path) -> "TrainingResult":
        """The same result, with what it is served as."""
        return replace(self, model=model, kind=kind, model_folder=folder)


def load_result(run_folder: Path) -> TrainingResult:
    """The result of a finished run.

    Raises:
        Invalid: the folder is no run, or the run has not finished.
    """
    try:
        values = json.loads((run_folder / RESULT).read_text("utf-8"))
    except FileNotFoundError as error:
        raise Invalid(f"{run_folder} holds no finished training run.", param="run") from error
    values["problems"] = tuple(Problem(**problem) for problem in values["problems"])
    values["masks"] = tuple(values["masks"])
    # The folder may have been moved since: what lies in it is found from where it is now.
    full = values["hyperparameters"].get("tune") == "full"
    values |= {"run_folder": run_folder, "adapter": run_folder / (WEIGHTS if full else ADAPTER)}
    values["model_folder"] = Path(values["model_folder"]) if values["model_folder"] else None
    return TrainingResult(**values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    atomic_write(path, (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """A run's JSON file.

    Raises:
        Invalid: it is not there, or is none.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: the run cannot go on without it.", param="run") from error
