"""Stand-in engines on a Ray cluster of a head and two nodes on this machine, behind a gateway in a separate process.

    python -m bench.cluster [--quick] [--json]

Reports the latency that the gateway adds to a whole answer, the throughput of 1, 2 and 4 replicas (each runs 8 streams
at once, with one token every 50 ms), and the seconds until all replicas are ready again after a replica or a node was
killed under load, with the requests that were lost on what was killed, and on other replicas. Needs Ray: it runs with
`.ray/bin/python` after `make test-cluster`.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.cluster.nodes import Nodes, connected, require_ray, running_nodes
from bench.replicas.deployment import MODEL, deploy, stand_ins
from bench.replicas.measurements import RUNNING, added_ms, linearity, measure_failure
from bench.replicas.results import print_results


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns 1 if a process was left behind or a request was lost that did not run on what died."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer requests and shorter loads")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.parse_args(arguments)
    require_ray()
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
    }
    # Ray prints its messages to this process's output.
    with (
        redirect_stdout(sys.stderr),
        tempfile.TemporaryDirectory(prefix="parley-cluster-") as folder,
        running_nodes() as nodes,
    ):
        results |= asyncio.run(_measure(nodes, Path(folder) / "home", quick=options.quick))
    results["orphans"] = len(stand_ins())
    print_results(results, as_json=options.json)
    return int(bool(results["orphans"] or results["lost_besides"]))


async def _measure(nodes: Nodes, home: Path, *, quick: bool) -> dict[str, Any]:
    async with deploy(home, running_per_replica=RUNNING, connect=connected) as deployment:
        added = await added_ms(deployment, 100 if quick else 500)
        rates = await linearity(deployment, 3.0 if quick else 8.0)
        second = f"{MODEL}#2"
        replica = await measure_failure(deployment, [second], lambda: deployment.kill_replica(second))
        dying = nodes.nodes[0]
        node = await measure_failure(
            deployment, nodes.replicas_on(dying, deployment.engines), lambda: nodes.kill(dying)
        )
    return (
        added
        | rates
        | {
            "recovery_replica_s": replica.recovery_s,
            "recovery_node_s": node.recovery_s,
            "recovery_controller_s": None,
            "recovery_controller_reason": "engines are actors: there is no Serve controller",
            "requests": replica.requests + node.requests,
            "lost_with_replica": replica.lost,
            "lost_with_node": node.lost,
            "lost_besides": replica.lost_besides + node.lost_besides,
        }
    )


if __name__ == "__main__":
    raise SystemExit(main())
