"""Whether a training fits into the memory that is free now: it waits until it does, and says what it waits for.

What it waits for it reserves (`models.reservations`): engines that are not pinned then make room. What is needed is
`data.planning`'s estimate, so a machine that is too small by it is tried all the same, with a warning. It loads torch:
only the child calls it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.registry import Registry
from models.reservations import reserve
from models.settings import Settings

_SHARE = 0.9  # of the free memory that a run may fill: allocators waste some
_AGAIN_S = 5.0
_TAKING_S = 30.0  # from the start until model and optimiser are in memory
_LARGEST_BATCH, _HIGHEST_RANK, _LONGEST = 16, 32, 4096  # what "auto" may become


def wait_for_memory(
    request: Mapping[str, Any], registry: Registry, settings: Settings, tell: Callable[[dict[str, Any]], None]
) -> None:
    """Returns once there is room for the training that `request` (see `train.worker.child`) asks for.

    Args:
        tell: told once what is waited for, as {"waiting": text}; or, as {"stage": text}, that it is tried anyway.
    """
    from train.planning.plan import find_machine
    from train.trainers.devices import find_device

    device = find_device(settings)
    needed = _needed(request, registry, settings)
    told = False
    holder, size = str(request.get("out", request["data"])), int(needed / _SHARE)
    while True:
        machine = find_machine(device.kind, device.bf16)
        if needed <= _SHARE * machine.free:
            # Until it has taken it: no engine is to start into what it has just found free.
            reserve(registry.database, holder, size, _TAKING_S)
            return
        if needed > _SHARE * machine.memory:
            have = f"{machine.name} has {_gib(machine.memory)} in all"
            tell({"stage": f"Warning: by estimate this needs {_gib(needed)} GiB, and {have}: it is tried all the same"})
            return
        if not told:
            told = True
            have = f"{_gib(machine.free)} of {_gib(machine.memory)} are free on {machine.name}"
            tell({"waiting": f"The job stays queued for want of memory: it needs {_gib(needed)} GiB, and {have}"})
        reserve(registry.database, holder, size, 3 * _AGAIN_S)
        time.sleep(_AGAIN_S)


def _needed(request: Mapping[str, Any], registry: Registry, settings: Settings) -> int:
    """Bytes, by the largest step that the request could lead to; by its own data where that is too much."""
    from train.hyperparameters import Hyperparameters
    from train.planning.needs import Step, need
    from train.planning.plan import find_machine, find_shape, plan
    from train.trainers.bases import find_base
    from train.trainers.batches import micro_batch
    from train.trainers.devices import find_device

    asked = Hyperparameters.from_dict(request.get("hyperparameters") or {})
    device = find_device(settings)
    source = find_base(request["base"], registry)
    if source.is_adapter:
        source = replace(find_base(str(source.spec and source.spec.base), registry), name=source.name)
    shape = find_shape(source)
    longest = min(shape.context or _LONGEST, _LONGEST) if asked.max_length == "auto" else asked.max_length
    batch = _LARGEST_BATCH if asked.batch_size == "auto" else asked.batch_size
    pairs = request.get("method") == "dpo"
    largest = Step(
        rows=2 if pairs else micro_batch(batch, longest),
        longest=longest,
        rank=_HIGHEST_RANK if asked.rank == "auto" else asked.rank,
        bytes_each=2 if device.kind == "cuda" else 4,
        checkpointing=False,
        device=device.kind,
    )
    bound = need(asked.tune, shape, largest).total
    if pairs or bound <= _SHARE * find_machine(device.kind, device.bf16).free:
        return bound  # no plan is made for pairs: this is one of them at its longest
    planned = plan(
        Path(request["data"]),
        request["base"],
        settings=settings,
        registry=registry,
        hyperparameters=asked,
        validation=0.0,
        measure=False,
    )
    return planned.way(asked.tune).need.total


def _gib(amount: int) -> str:
    return f"{amount / 2**30:.1f}"
