"""What a run trains on, and what that can do: a CPU or a GPU, its number formats, its attention kernels."""

import importlib.util
from dataclasses import dataclass
from typing import Any

from models.errors import Invalid
from models.settings import Settings

_AMPERE = (8, 0)  # compute capability from which flash attention runs


@dataclass(frozen=True)
class Device:
    """`kind` is "cpu" or "cuda"; `flash`: flash attention is installed and runs here."""

    kind: str
    bf16: bool = False
    flash: bool = False


def find_device(settings: Settings | None, gpus: int = 1) -> Device:
    """The device that the settings ask for.

    Raises:
        Invalid: a GPU is asked for, and torch finds none; or more of them than there are.
    """
    import torch

    asked = settings.device if settings else "auto"
    if asked == "cuda" and not torch.cuda.is_available():
        raise Invalid("device is cuda, but torch finds no GPU here. Use cpu or auto.", param="device")
    if asked == "cpu" or not torch.cuda.is_available():
        return Device("cpu")
    if gpus > torch.cuda.device_count():
        raise Invalid(f"{gpus} GPUs are asked for, and {torch.cuda.device_count()} can be seen here.", param="gpus")
    flash = importlib.util.find_spec("flash_attn") is not None and torch.cuda.get_device_capability() >= _AMPERE
    return Device("cuda", torch.cuda.is_bf16_supported(), flash)


def one_card(arguments: Any) -> Any:
    """A trainer's arguments, told to use one GPU: with several to be seen it would copy the model to each, which TRL
    refuses. Several are used by several processes (`launching`).
    """
    if arguments.device.type == "cuda":
        arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
