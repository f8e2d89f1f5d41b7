"""The process that trains a fine-tuning job: it waits for memory, and each epoch's checkpoint becomes a model.

As `train.worker.child`, with {"wandb": the integration or null} in its input and {"waiting": text} among its lines. One
job is one wandb run, also after interruptions: the run has the job's id and is resumed.
"""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.jobs.jobs import reserve_memory
from models.registry.registry import Registry
from models.settings.settings import Settings
from train.finetuning.checkpoint_models import CheckpointPublisher
from train.request import TrainingRequest
from train.run.folder import RESULT, TrainingResult
from train.run.progress import Progress, combine_listeners, silent
from train.run.trackers import open_wandb
from train.worker.child import EventLines, WriteLine, main

_SHARE = 0.9  # of the free memory that a run may fill: allocators waste some
_AGAIN_S = 5.0
_LOADING_S = 30.0  # until the model and the optimiser are in memory
_LARGEST_BATCH, _HIGHEST_RANK, _LONGEST = 16, 32, 4096  # the largest values that "auto" can take


def train_job(values: dict[str, Any], registry: Registry, settings: Settings, write: WriteLine) -> TrainingResult:
    """Trains the request in `values` and publishes it, with its checkpoints as models on the way."""
    from train.finetuning.validation import load_checked
    from train.training import train

    request, out = TrainingRequest.from_json(values["request"]), Path(values["out"])
    if not (out / RESULT).is_file():
        wait_for_memory(request, out, registry, settings, write)
    models = CheckpointPublisher(request, out, registry, settings)
    emit = EventLines(write, models)
    for checkpoint in models.existing(out):
        emit(checkpoint)
    with wandb_run(values["wandb"], str(request.job), str(request.base), out) as tracker:
        return train(
            request, settings=settings, registry=registry, out=out, resume=True,
            progress=combine_listeners(emit, tracker), checked=load_checked(request, out),
        )  # fmt: skip


@contextmanager
def wandb_run(integration: Mapping[str, Any] | None, job: str, base: str, folder: Path) -> Iterator[Progress]:
    """A receiver that logs steps and validations, closed at the end; without an integration it ignores them.

    Args:
        integration: OpenAI's {project, name, entity, tags}. folder: for wandb's own files.
    """
    if integration is None:
        yield silent
        return
    tags = [*(integration.get("tags") or ()), "parley/finetune", f"parley/{base}"[:64], f"parley/{job}"]
    with open_wandb(
        project=integration["project"],
        entity=integration.get("entity"),
        name=integration.get("name") or job,
        id=job,
        resume="allow",
        tags=tags,
        dir=str(folder),
    ) as emit:
        yield emit


def wait_for_memory(
    request: TrainingRequest, out: Path, registry: Registry, settings: Settings, write: Callable[[dict[str, Any]], None]
) -> None:
    """Returns once there is room for the training.

    Args:
        out: the run's folder, under whose name memory is reserved.
        write: receives {"waiting": text} once, or {"stage": text} if the training is tried without enough memory.
    """
    from train.planning.machines import find_machine
    from train.trainers.runtime import find_device

    device = find_device(settings)
    needed = _estimate_need(request, registry, settings)
    waiting = False
    holder, size = str(out), int(needed / _SHARE)
    while True:
        machine = find_machine(device.kind, device.bf16)
        if needed <= _SHARE * machine.free:
            # Until the training has allocated it: no engine may start into this memory.
            reserve_memory(registry.database, holder, size, _LOADING_S)
            return
        if needed > _SHARE * machine.memory:
            total = f"{machine.name} has {_gib(machine.memory)} in all"
            write(
                {"stage": f"Warning: by estimate this needs {_gib(needed)} GiB, and {total}: it is tried all the same"}
            )
            return
        if not waiting:
            waiting = True
            free = f"{_gib(machine.free)} of {_gib(machine.memory)} are free on {machine.name}"
            write({"waiting": f"The job stays queued because memory is short: it needs {_gib(needed)} GiB, and {free}"})
        reserve_memory(registry.database, holder, size, 3 * _AGAIN_S)
        time.sleep(_AGAIN_S)


def _estimate_need(request: TrainingRequest, registry: Registry, settings: Settings) -> int:
    """Bytes, for the largest step that the request allows; if that is too much, for its own data."""
    from train.planning.machines import find_machine
    from train.planning.needs import Step, need
    from train.planning.plan import plan
    from train.planning.shapes import find_shape
    from train.trainers.bases import find_base
    from train.trainers.fit_job import rows_at_once
    from train.trainers.runtime import find_device

    values = request.hyperparameters
    device = find_device(settings)
    source = find_base(request.base, registry)
    if source.is_adapter:
        source = replace(find_base(str(source.spec and source.spec.base), registry), name=source.name)
    shape = find_shape(source)
    longest = min(shape.context or _LONGEST, _LONGEST) if values.max_length == "auto" else values.max_length
    batch = _LARGEST_BATCH if values.batch_size == "auto" else values.batch_size
    largest = Step(
        rows=rows_at_once(request.method, batch, longest) * (2 if request.method == "dpo" else 1),
        longest=longest,
        rank=_HIGHEST_RANK if values.rank == "auto" else values.rank,
        bytes_each=2 if device.kind == "cuda" else 4,
        checkpointing=False,
        device=device.kind,
        compared=request.method != "sft",
    )
    bound = need(values.tune, shape, largest).total
    if bound <= _SHARE * find_machine(device.kind, device.bf16).free:
        return bound
    planned = plan(replace(request, validation=0.0), settings=settings, registry=registry, measure=False)
    return planned.way(values.tune).need.total


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.1f}"


if __name__ == "__main__":
    sys.exit(main(train_job))
