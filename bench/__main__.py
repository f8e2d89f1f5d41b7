"""`python -m bench`, or `make bench`: runs every benchmark in turn, and reports which ones lack their data."""

import subprocess
import sys

BENCHMARKS = (
    "bench.gateway",
    "bench.gateway.processes",
    "bench.replicas",
    "bench.cluster",
    "bench.ratings",
    "bench.verdicts",
    "bench.judges",
    "bench.runner",
    "bench.batches",
    "bench.scores",
    "bench.mtbench",
    "bench.training",
    "bench.real",
    "bench.demo_model",
    "bench.support",
    "bench.kills",
    "bench.blind",
    "bench.raters",
    "bench.votes_import",
    "bench.votes_kill",
    "bench.database_load",
    "bench.faults",
    "bench.schemathesis",
)


def main() -> int:
    """Runs each benchmark in a process of its own; returns 1 if any failed."""
    statuses = {}
    for name in BENCHMARKS:
        print(f"── {name}", flush=True)
        statuses[name] = subprocess.call([sys.executable, "-m", name])
    print()
    for name, status in statuses.items():
        outcome = {0: "done", 2: "skipped: its data is missing"}.get(status, f"failed ({status})")
        print(f"{name}: {outcome}")
    return int(any(status not in (0, 2) for status in statuses.values()))


if __name__ == "__main__":
    sys.exit(main())
