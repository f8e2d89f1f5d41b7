"""Runs every benchmark that this machine can run, one after another: `python -m bench`, or `make bench`."""

import subprocess
import sys

BENCHMARKS = (
    "bench.gateway",
    "bench.ratings",
    "bench.judges",
    "bench.runner",
    "bench.scores",
    "bench.mtbench",
    "bench.training",
    "bench.demo_model",
    "bench.support",
    "bench.kills",
    "bench.faults",
    "bench.schemathesis",
)


def main() -> int:
    """Runs each as a process of its own; says at the end which failed or could not run here."""
    ends = {}
    for name in BENCHMARKS:
        print(f"── {name}", flush=True)
        ends[name] = subprocess.call([sys.executable, "-m", name])
    print()
    for name, status in ends.items():
        print(f"{name}: {'done' if status == 0 else 'its data is not here' if status == 2 else f'failed ({status})'}")
    return int(any(status not in (0, 2) for status in ends.values()))


if __name__ == "__main__":
    sys.exit(main())
