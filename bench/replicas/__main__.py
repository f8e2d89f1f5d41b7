"""Replicas of a stand-in engine on this machine, behind a gateway in a separate process.

    python -m bench.replicas [--quick] [--json]

Reports the latency that the gateway adds to a whole answer with two replicas, the throughput of 1, 2 and 4 replicas
(each runs 8 streams at once, with one token every 50 ms), and what happens when a replica is killed: the seconds until
it is ready again, the requests lost on it, and those lost on others.
"""

import argparse
import asyncio
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.replicas.deployment import MODEL, Deployment, deploy, stand_ins
from bench.replicas.measurements import RUNNING, added_ms, linearity, measure_failure
from bench.replicas.results import print_results


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns 1 if a process was left behind or another replica's request was lost."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.replicas", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests and shorter loads")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = {"date": datetime.now(UTC).date().isoformat(), "cores": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory(prefix="parley-replicas-") as folder:
        results |= asyncio.run(_measure(Path(folder) / "home", quick=options.quick))
    results["orphans"] = len(stand_ins())
    print_results(results, as_json=options.json)
    return int(bool(results["orphans"] or results["lost_besides"]))


async def _measure(home: Path, *, quick: bool) -> dict[str, Any]:
    async with deploy(home, running_per_replica=RUNNING) as deployment:
        rates = await linearity(deployment, 3.0 if quick else 8.0)
        killed = await measure_failure(deployment, [f"{MODEL}#2"], lambda: _kill(deployment, f"{MODEL}#2"))
        await deployment.scale(2)
        added = await added_ms(deployment, 100 if quick else 500)
    return (
        added
        | rates
        | {
            "recovery_replica_s": killed.recovery_s,
            "requests": killed.requests,
            "lost_with_replica": killed.lost,
            "lost_besides": killed.lost_besides,
        }
    )


def _kill(deployment: Deployment, name: str) -> None:
    deployment.kill_replica(name)


if __name__ == "__main__":
    raise SystemExit(main())
