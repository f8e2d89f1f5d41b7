"""A run's folder and its result: what was asked, what was measured, where the adapter is. Light to import.

<runs>/<ulid>/config.json     what was asked and what every "auto" became
              metrics.jsonl   one line a step
              train.log       stages, and the libraries' warnings
              adapter/        adapter_model.safetensors and adapter_config.json
              result.json     the TrainingResult, written last: without it the run has not finished
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.errors import Invalid
from models.folders import atomic_write
from train.data.conversations import Problem

CONFIG, METRICS, LOG, RESULT, ADAPTER = "config.json", "metrics.jsonl", "train.log", "result.json", "adapter"


@dataclass(frozen=True)
class TrainingResult:
    """What a run made, and how it went. Losses in nats per learnt token, times in seconds.

    `measured_on` says which examples the losses before and after are from. `tokens` counts what went through the
    model over all epochs, padding left out; `learnt_tokens` those of them that carried loss. `model` and
    `model_folder` are set once it is published.
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
    values |= {"run_folder": run_folder, "adapter": run_folder / ADAPTER}
    values["model_folder"] = Path(values["model_folder"]) if values["model_folder"] else None
    return TrainingResult(**values)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    atomic_write(path, (json.dumps(values, ensure_ascii=False, indent=1) + "\n").encode())
