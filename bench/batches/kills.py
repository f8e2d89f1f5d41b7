"""SIGKILL of the worker and of the gateway during a batch: no row may be lost, none may appear twice."""

import time
from collections import Counter

from bench.batches.deployment import STAND_IN, Deployment, row
from bench.progress import print_progress

_KILLED = ("worker", "gateway", "worker", "gateway")


def measure_kills(parley: Deployment, rows: int) -> dict[str, int | str | float]:
    """Kills them in turn, each after a further part of the rows; returns the rows by their number of lines."""
    began = time.perf_counter()
    batch = parley.create(row(number, STAND_IN, f"row {number}", 16) for number in range(rows))
    parley.wait(batch, "in_progress")
    kills = 0
    for number, command in enumerate(_KILLED, 1):
        wanted = rows * number // (len(_KILLED) + 2)
        while (now := parley.client.batches.retrieve(batch.id)).status == "in_progress":
            if now.request_counts is not None and now.request_counts.completed >= wanted:
                print_progress(f"kills the {command} after {now.request_counts.completed} rows")
                parley.process(command).kill()
                kills += 1
                break
            time.sleep(0.05)
    done = parley.wait(batch)
    lines = Counter(line["custom_id"] for line in parley.lines(done.output_file_id))
    errors = Counter(line["custom_id"] for line in parley.lines(done.error_file_id))
    both = lines + errors
    return {
        "status": done.status,
        "kills": kills,
        "rows": rows,
        "answered": len(lines),
        "failed": len(errors),
        "lost": sum(f"row-{number}" not in both for number in range(rows)),
        "twice": sum(count > 1 for count in both.values()),
        "seconds": round(time.perf_counter() - began, 1),
    }
