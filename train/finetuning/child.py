"""The process that trains a fine-tuning job: it waits for memory, and each epoch's checkpoint becomes a model.

As `train.worker.child`, with {"wandb": the integration or null} in its input and {"waiting": text} among its lines.
"""

import sys
from pathlib import Path
from typing import Any

from models.registry import Registry
from models.settings import Settings
from train.finetuning.checkpoint_models import CheckpointPublisher
from train.finetuning.integrations import wandb_run
from train.request import TrainingRequest
from train.run.folder import RESULT
from train.run.progress import together
from train.run.result import TrainingResult
from train.worker.child import EventLines, WriteLine, main


def train_job(values: dict[str, Any], registry: Registry, settings: Settings, write: WriteLine) -> TrainingResult:
    """Trains the request in `values` and publishes it, with its checkpoints as models on the way."""
    from train.finetuning.checked_data import load_checked
    from train.finetuning.memory import wait_for_memory
    from train.training import train

    request, out = TrainingRequest.from_json(values["request"]), Path(values["out"])
    if not (out / RESULT).is_file():
        wait_for_memory(request, out, registry, settings, write)
    models = CheckpointPublisher(str(request.name), str(request.base), str(request.job), registry, settings)
    emit = EventLines(write, models)
    for checkpoint in models.existing(out):
        emit(checkpoint)
    with wandb_run(values["wandb"], str(request.job), str(request.base), out) as tracker:
        return train(
            request, settings=settings, registry=registry, out=out, resume=True, progress=together(emit, tracker),
            checked=load_checked(request, out),
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(train_job))
