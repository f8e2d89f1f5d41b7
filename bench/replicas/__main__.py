"""Replicas of a stand-in engine on this machine, behind a gateway in a separate process.

    python -m bench.replicas [--quick] [--json]

Reports the latency that the gateway adds to a whole answer with two replicas, the throughput of 1, 2 and 4 replicas
(each runs 8 streams at once, with one token every 50 ms), and what happens when a replica is killed: the seconds until
it is ready again, the requests lost on it, and those lost on others.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.replicas.deployment import MODEL, Deployment, deploy, stand_ins
from bench.replicas.load import latencies_ms, load
from models.terminal import console
from serve.fleet.engine_states import read_key

_RUNNING = 8
_SETTLE_S = 1.5


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
    if options.json:
        print(json.dumps(results))
    else:
        out = console()
        for name, value in results.items():
            out.print(f"{name:20} {value}")
    return int(bool(results["orphans"] or results["lost_besides"]))


async def _measure(home: Path, *, quick: bool) -> dict[str, Any]:
    async with deploy(home, running_per_replica=_RUNNING) as deployment:
        rates = {}
        for replicas in (1, 2, 4):
            if replicas > 1:
                await deployment.scale(replicas)
            rates[replicas] = await _tokens_per_s(deployment, replicas, 3.0 if quick else 8.0)
        killed = await _kill(deployment)
        await deployment.scale(2)
        added = await _added_ms(deployment, 100 if quick else 500)
    linear = {f"linear_{count}": round(rates[count] / rates[1] / count, 3) for count in (2, 4)}
    return added | {"tokens_per_s_1": round(rates[1], 1)} | linear | killed


async def _tokens_per_s(deployment: Deployment, replicas: int, seconds: float) -> float:
    """Tokens per second, with enough clients for a queue at every replica."""
    async with load(deployment.gateway.base_url, _RUNNING * replicas + 4) as running:
        await asyncio.sleep(_SETTLE_S)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        return running.tokens_per_s(began)


async def _kill(deployment: Deployment) -> dict[str, Any]:
    """Figures of a SIGKILL of one replica, under a load that the others can serve."""
    name = f"{MODEL}#2"
    async with load(deployment.gateway.base_url, 2 * _RUNNING) as running:
        await asyncio.sleep(_SETTLE_S)
        dead = deployment.kill_replica(name)
        began = time.monotonic()
        await deployment.until(lambda: deployment.engines[name].state != "ready")
        await deployment.until(deployment.all_ready)
        recovery_s = time.monotonic() - began
        await asyncio.sleep(_SETTLE_S)
    lost = running.lost()
    return {
        "recovery_replica_s": round(recovery_s, 2),
        "requests": len(running.streams),
        "lost_with_replica": sum(stream.engine == dead for stream in lost),
        "lost_besides": sum(stream.engine != dead for stream in lost),
    }


async def _added_ms(deployment: Deployment, count: int) -> dict[str, float]:
    """The milliseconds that the gateway adds, at the median and the 99th percentile."""
    settings = deployment.gateway.settings
    engine = deployment.engines[MODEL].address
    measured = await latencies_ms(
        {"direct": (f"{engine}/v1", read_key(settings.home)), "gateway": (settings.gateway_url, "")}, count
    )
    quantiles = {name: sorted(values) for name, values in measured.items()}
    added = {}
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        at = int(share * (count - 1))
        added[f"added_{label}_ms"] = round(quantiles["gateway"][at] - quantiles["direct"][at], 2)
    return added


if __name__ == "__main__":
    raise SystemExit(main())
