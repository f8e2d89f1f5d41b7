"""The result of a run: what it trained, how it went, and where the weights are. No torch."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.errors import Invalid
from train.data.conversations import Problem
from train.run.folder import ADAPTER, RESULT, WEIGHTS, write_json


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

    def as_json(self) -> dict[str, Any]:
        """The content of result.json."""
        return asdict(self) | {
            "run_folder": str(self.run_folder),
            "adapter": str(self.adapter),
            "model_folder": str(self.model_folder) if self.model_folder else None,
        }

    def save(self) -> None:
        """Writes result.json atomically."""
        write_json(self.run_folder / RESULT, self.as_json())

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
