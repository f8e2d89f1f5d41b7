"""The device that a run trains on: CPU or GPU, its number formats and attention kernels."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from models.errors import Invalid
from models.settings import Settings

_AMPERE = (8, 0)  # compute capability from which flash attention runs


@dataclass(frozen=True)
class Device:
    """`kind` is "cpu" or "cuda"; `flash` says whether flash attention is installed and supported."""

    kind: str
    bf16: bool = False
    flash: bool = False


def find_device(settings: Settings | None, gpus: int = 1) -> Device:
    """The device that the settings name.

    Raises:
        Invalid: torch finds no GPU, or fewer than requested.
    """
    import torch

    device = settings.device if settings else "auto"
    if device == "cuda" and not torch.cuda.is_available():
        raise Invalid("device is cuda, but torch finds no GPU here. Use cpu or auto.", param="device")
    if device == "cpu" or not torch.cuda.is_available():
        return Device("cpu")
    if gpus > torch.cuda.device_count():
        raise Invalid(f"{gpus} GPUs are requested, but torch finds {torch.cuda.device_count()}.", param="gpus")
    flash = importlib.util.find_spec("flash_attn") is not None and torch.cuda.get_device_capability() >= _AMPERE
    return Device("cuda", torch.cuda.is_bf16_supported(), flash)


def use_one_gpu(arguments: Any) -> Any:
    """A trainer's arguments, limited to one GPU: with several visible it would copy the model to each, which TRL
    refuses. `launch` uses several GPUs with one process each.
    """
    if arguments.device.type == "cuda":
        arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
