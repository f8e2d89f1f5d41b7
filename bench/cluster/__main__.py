"""Stand-in engines on a Ray cluster of a head and two nodes on this machine, behind a gateway in a separate process.

    python -m bench.cluster [--quick] [--json]

Reports the latency that the gateway adds to a whole answer, the throughput of 1, 2 and 4 replicas (each runs 8 streams
at once, with one token every 50 ms), and the seconds until all replicas are ready again after a replica or a node was
killed under load, with the requests that were lost on what was killed, and on other replicas. Needs Ray: it runs with
`.ray/bin/python` after `make test-cluster`.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from bench.cluster.nodes import Nodes, connected, require_ray, running_nodes
from bench.replicas.command import Measure, Scale, run_bench
from bench.replicas.deployment import MODEL, deploy
from bench.replicas.measurements import RUNNING, added_ms, linearity, measure_failure


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns 1 if a process was left behind or a request was lost that did not run on what died."""
    return run_bench("bench.cluster", __doc__, arguments, _cluster)


@contextmanager
def _cluster() -> Iterator[Measure]:
    require_ray()
    # Ray prints its messages to this process's output.
    with redirect_stdout(sys.stderr), running_nodes() as nodes:
        yield partial(_measure, nodes)


async def _measure(nodes: Nodes, home: Path, scale: Scale) -> dict[str, Any]:
    async with deploy(home, running_per_replica=RUNNING, connect=connected) as deployment:
        added = await added_ms(deployment, scale.requests)
        rates = await linearity(deployment, scale.seconds)
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
