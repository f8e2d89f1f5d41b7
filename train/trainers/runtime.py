"""The runtime of a training in this process: device, memory in use, threads, and where the libraries' output goes.

The RAM's peak is the kernel's count (VmHWM), which a process can reset on Linux; elsewhere it is the peak since the
process started. Light: torch is loaded by the functions.
"""

import importlib.util
import logging
import resource
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from models.errors import Invalid
from models.settings.settings import Settings

_AMPERE = (8, 0)  # compute capability from which flash attention runs
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_LIBRARIES = ("transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "huggingface_hub")


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
        import torch

        self._cuda: Any = torch.cuda if device == "cuda" else None
        if self._cuda:
            self._cuda.reset_peak_memory_stats()
        else:
            _reset_peak()

    def now(self) -> int:
        """Bytes in use now."""
        return self._cuda.memory_allocated() if self._cuda else psutil.Process().memory_info().rss

    def peak(self) -> int:
        """The most bytes in use since the creation."""
        return self._cuda.max_memory_allocated() if self._cuda else _peak_rss()


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


class _LibraryHandlers:
    """The handlers of the libraries' loggers. Replacements in several threads may end in any order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replacements: list[logging.Handler] = []
        self._originals: list[tuple[list[logging.Handler], bool]] = []

    @contextmanager
    def replaced_by(self, handler: logging.Handler) -> Iterator[None]:
        """Inside, the loggers use only `handler`, or the newest one of those that are in use. Closes it."""
        loggers = [logging.getLogger(name) for name in _LIBRARIES]
        with self._lock:
            if not self._replacements:
                self._originals = [(logger.handlers[:], logger.propagate) for logger in loggers]
            self._replacements.append(handler)
            self._apply(loggers)
        try:
            yield
        finally:
            with self._lock:
                self._replacements.remove(handler)
                self._apply(loggers)
            handler.close()

    def _apply(self, loggers: Sequence[logging.Logger]) -> None:
        for logger, (handlers, propagate) in zip(loggers, self._originals, strict=True):
            if self._replacements:
                logger.handlers, logger.propagate = [self._replacements[-1]], False
            else:
                logger.handlers, logger.propagate = handlers, propagate


_library_handlers = _LibraryHandlers()


@contextmanager
def quiet(log: Path | None = None, threads: int | None = None) -> Iterator[None]:
    """Inside, the libraries' warnings go to `log` (nowhere without it), and torch uses `threads` threads.

    Everything is restored afterwards.
    """
    import torch
    from datasets.utils import disable_progress_bars, enable_progress_bars
    from transformers.utils import logging as transformers_logging

    before = torch.get_num_threads()
    if threads:
        torch.set_num_threads(threads)
    handler: logging.Handler = logging.FileHandler(log, encoding="utf-8") if log else logging.NullHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    disable_progress_bars()
    transformers_logging.disable_progress_bar()
    with _library_handlers.replaced_by(handler), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            torch.set_num_threads(before)
            enable_progress_bars()
            transformers_logging.enable_progress_bar()
