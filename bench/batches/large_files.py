"""The memory of worker and gateway during a small and a large batch. A stand-in answers, which computes nothing."""

import time

import psutil
from openai.types import Batch

from bench.batches.deployment import STAND_IN, Deployment, row
from bench.progress import print_progress

_TEXT = "Where is this order, and when will it be here? " * 20  # about 1 kB a row


def measure_memory(parley: Deployment, small: int, large: int) -> dict[str, float]:
    """The largest resident memory in MiB of worker and gateway during each batch, and the rows per second."""
    result: dict[str, float] = {}
    for name, rows in (("small", small), ("large", large)):
        print_progress(f"memory, {rows} rows")
        began = time.perf_counter()
        batch = parley.create(row(number, STAND_IN, f"{number} {_TEXT}", 16) for number in range(rows))
        peaks = _peaks(parley, batch)
        seconds = time.perf_counter() - began
        done = parley.client.batches.retrieve(batch.id)
        if done.request_counts is None or done.request_counts.completed != rows:
            raise ConnectionError(f"the batch has not completed: {done}")
        result |= {f"{name}_{command}_mib": round(peak, 1) for command, peak in peaks.items()}
        result[f"{name}_rows_per_s"] = round(rows / seconds)
    result["worker_growth_mib"] = round(result["large_worker_mib"] - result["small_worker_mib"], 1)
    return result


def _peaks(parley: Deployment, batch: Batch) -> dict[str, float]:
    processes: dict[str, psutil.Process] = {name: parley.process(name) for name in ("worker", "gateway")}
    peaks = dict.fromkeys(processes, 0.0)
    while parley.client.batches.retrieve(batch.id).status in ("validating", "in_progress", "finalizing"):
        for name, process in processes.items():
            peaks[name] = max(peaks[name], process.memory_info().rss / 2**20)
        time.sleep(0.2)
    return peaks
