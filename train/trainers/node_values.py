"""The values that nodes compare before a training begins: the base, the data, the hyperparameters and the software."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from train.request import TrainingRequest
from train.run.origins import digest
from train.trainers.bases import Base
from train.trainers.preparation import Prepared, TrainingData
from train.trainers.runtime import Device

_PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate")
_ENDS = 1 << 20  # bytes of a large file that are read at each end


def describe_node(
    base: Base, device: Device, request: TrainingRequest, prepared: Prepared, data: TrainingData
) -> dict[str, Any]:
    """Name → value or digest. They must be equal on all nodes."""
    hyperparameters = {name.replace("_", " "): value for name, value in asdict(prepared.resolved.values).items()}
    # In this order: of several differences the first is reported, and some hyperparameters follow from the data.
    return {
        "the data": _named(digest((*data.train, *data.validation))),
        "the base": base_digest(base),
        "the tokens of the data (caused by the base's tokenizer or chat template)": _named(
            digest((*prepared.rows, *prepared.held))
        ),
        "the device": device.kind,
        "--gpus": request.gpus,
        "--shard": request.shard,
        **hyperparameters,
        **{f"the version of {name}": version(name) for name in _PACKAGES},
    }


def base_digest(base: Base) -> str:
    """A digest of the base's weights and config, or of its name if it is on a hub. Of large files, reads the ends."""
    folder, total = Path(base.location), hashlib.sha256()
    if not folder.is_dir():
        return _named(hashlib.sha256(base.location.encode()).hexdigest())
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        if not path.is_file():
            continue
        size = path.stat().st_size
        total.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            total.update(file.read(_ENDS))
            file.seek(max(0, size - _ENDS))
            total.update(file.read(_ENDS))
    return _named(total.hexdigest())


def _named(value: str) -> str:
    return f"sha256:{value}"
