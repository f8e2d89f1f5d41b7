"""The device that a run trains on: CPU or GPU, its number formats and attention kernels, and the memory in use.

The RAM's peak is the kernel's count (VmHWM), which a process can reset on Linux; elsewhere it is the peak since the
process started. Light: torch is loaded by the functions.
"""

import importlib.util
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from models.errors import Invalid
from models.settings import Settings

_AMPERE = (8, 0)  # compute capability from which flash attention runs
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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


class Memory:
    """Measures from its creation; one run at a time."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            _reset_peak()

    def now(self) -> int:
        """Bytes in use now."""
        return torch.cuda.memory_allocated() if self._cuda else psutil.Process().memory_info().rss

    def peak(self) -> int:
        """The most bytes in use since the creation."""
        return torch.cuda.max_memory_allocated() if self._cuda else _peak_rss()


def _reset_peak() -> None:
    try:
        _RESET.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return  # not Linux, or not allowed: the peak is then since the process started


def _peak_rss() -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
