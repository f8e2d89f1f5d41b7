"""Batches: tokens per second, first tokens of other requests beside a batch, memory, and kills.

    python -m bench.batches [--parts throughput,first_tokens,memory,kills] [--rounds 3]
        [--rows 1000] [--requests 200] [--quick] [--json]

Exit status 1 if a goal is missed: 0.95 of a load generator's tokens per second; a p95 of interactive first tokens of at
most 1.5 times, or 100 ms above, that without a batch; 64 MiB more memory for a large batch; no row lost or twice.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.batches.deployment import deployment
from bench.batches.first_tokens import measure_first_tokens
from bench.batches.kills import measure_kills
from bench.batches.large_files import measure_memory
from bench.batches.throughput import measure_throughput

_PARTS = ("throughput", "first_tokens", "memory", "kills")
_ON_ENGINE = {"throughput", "first_tokens"}
_RATIO, _GROWTH_MIB = 0.95, 64.0


def main() -> int:
    """Runs the bench; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m bench.batches", description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(_PARTS), help="the parts to run (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the throughput (default: 3)")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the throughput's batches (default: 1000)")
    parser.add_argument("--requests", type=int, default=200, help="interactive requests (default: 200)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows of memory and kills")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in _PARTS]:
        parser.error(f"there is no part {unknown[0]}: choose from {', '.join(_PARTS)}")
    result: dict[str, Any] = {"load": round(os.getloadavg()[0], 1), **_measure(parts, options)}
    if not options.json:
        for part in parts:
            for name, value in result[part].items():
                print(f"{part:14}{name:26}{value}")
    print(json.dumps(result))
    return int(not all(_met(part, result[part]) for part in parts))


def _measure(parts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    scale = 10 if options.quick else 1
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        with deployment(folder, engine=not _ON_ENGINE.isdisjoint(parts)) as parley:
            if "throughput" in parts:
                result["throughput"] = measure_throughput(parley, folder, options.rows, options.rounds)
            if "first_tokens" in parts:
                result["first_tokens"] = measure_first_tokens(parley, options.requests, 40_000)
            if "memory" in parts:
                result["memory"] = measure_memory(parley, 1000, 50_000 // scale)
            if "kills" in parts:
                result["kills"] = measure_kills(parley, 10_000 // scale)
    return result


def _met(part: str, figures: dict[str, Any]) -> bool:
    if part == "throughput":
        return figures["ratio"] >= _RATIO
    if part == "first_tokens":
        return figures["met"]
    if part == "memory":
        return figures["worker_growth_mib"] <= _GROWTH_MIB
    return figures["status"] == "completed" and not figures["lost"] and not figures["twice"]


if __name__ == "__main__":
    sys.exit(main())
