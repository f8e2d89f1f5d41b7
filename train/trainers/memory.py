"""How much memory a run takes, now and at its worst: the GPU's where it trains on one, else this process's RAM.

Peaks of the RAM are the kernel's own count (VmHWM), which Linux lets a process set back; elsewhere the peak is that
of the process's whole life. It knows nothing of training.
"""

import resource
import sys
from pathlib import Path

import psutil
import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Memory:
    """Watches from where it is made; one run at a time."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            _forget_peak()

    def now(self) -> int:
        """Bytes held at this moment."""
        return torch.cuda.memory_allocated() if self._cuda else psutil.Process().memory_info().rss

    def peak(self) -> int:
        """Bytes held at the worst moment since the beginning."""
        return torch.cuda.max_memory_allocated() if self._cuda else _peak_rss()


def _forget_peak() -> None:
    try:
        _RESET.write_text("5")  # proc(5): resets the peak resident set size
    except OSError:
        return  # not Linux, or not allowed: the peak is then one of the process's whole life


def _peak_rss() -> int:
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
