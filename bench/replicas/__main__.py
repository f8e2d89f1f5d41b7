"""Replicas of a stand-in engine on this machine, behind a gateway in a separate process.

    python -m bench.replicas [--quick] [--json]

Reports the latency that the gateway adds to a whole answer with two replicas, the throughput of 1, 2 and 4 replicas
(each runs 8 streams at once, with one token every 50 ms), and what happens when a replica is killed: the seconds until
it is ready again, the requests lost on it, and those lost on others.
"""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.replicas.command import Scale, run_bench
from bench.replicas.deployment import MODEL, deploy
from bench.replicas.measurements import RUNNING, added_ms, linearity, measure_failure


def main(arguments: list[str] | None = None) -> int:
    """Runs the bench; returns 1 if a process was left behind or another replica's request was lost."""
    return run_bench("bench.replicas", __doc__, arguments, lambda: nullcontext(_measure))


async def _measure(home: Path, scale: Scale) -> dict[str, Any]:
    second = f"{MODEL}#2"
    async with deploy(home, running_per_replica=RUNNING) as deployment:
        rates = await linearity(deployment, scale.seconds)
        killed = await measure_failure(deployment, [second], lambda: deployment.kill_replica(second))
        await deployment.scale(2)
        added = await added_ms(deployment, scale.requests)
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


if __name__ == "__main__":
    raise SystemExit(main())
