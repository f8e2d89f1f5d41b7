"""Memory that a run uses, now and at the peak: of the GPU if it trains on one, otherwise the RAM of this process.

The RAM's peak is the kernel's count (VmHWM), which a process can reset on Linux; elsewhere it is the peak since the
process started.
"""

import resource
import sys
from pathlib import Path

import psutil
import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


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
