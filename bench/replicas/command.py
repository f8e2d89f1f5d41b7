"""The command of the benches of replicas: its options, a home for the run, and how the results are printed."""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.replicas.deployment import stand_ins
from bench.replicas.results import print_results


@dataclass(frozen=True)
class Scale:
    """How much is measured: requests for the latency, and seconds of load for each throughput."""

    requests: int
    seconds: float


Measure = Callable[[Path, Scale], Coroutine[Any, Any, dict[str, Any]]]


def run_bench(
    name: str,
    description: str | None,
    arguments: list[str] | None,
    prepare: Callable[[], AbstractContextManager[Measure]],
) -> int:
    """Runs a bench; returns 1 if a process was left behind, or a request was lost that did not run on what failed.

    Args:
        prepare: starts what the bench needs, and yields the measurement, which gets a folder for its home.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests and shorter loads")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    scale = Scale(100, 3.0) if options.quick else Scale(500, 8.0)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder, prepare() as measure:
        results |= asyncio.run(measure(Path(folder) / "home", scale))
    results["orphans"] = len(stand_ins())
    print_results(results, as_json=options.json)
    return int(bool(results["orphans"] or results["lost_besides"]))
