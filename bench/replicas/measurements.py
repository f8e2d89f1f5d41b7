"""What is measured of a deployment: throughput, the gateway's own latency, and the effects of a failure."""

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from bench.replicas.deployment import MODEL, Deployment
from bench.replicas.load import latencies_ms, load
from serve.fleet.engine_states import engine_key, read_key

RUNNING = 8  # requests that each replica runs at once
_SETTLE_S = 1.5


@dataclass(frozen=True)
class Failure:
    """The effects of a failure under load: seconds until all replicas were ready again, and numbers of requests.

    `lost`: on what failed. `lost_besides`: on other replicas.
    """

    recovery_s: float
    requests: int
    lost: int
    lost_besides: int


async def tokens_per_s(deployment: Deployment, replicas: int, seconds: float) -> float:
    """Tokens per second, with enough clients for a queue at every replica."""
    async with load(deployment.gateway.base_url, RUNNING * replicas + 4) as running:
        await asyncio.sleep(_SETTLE_S)
        began = time.monotonic()
        await asyncio.sleep(seconds)
        return running.tokens_per_s(began)


async def linearity(deployment: Deployment, seconds: float) -> dict[str, float]:
    """The throughput of one replica, and that of 2 and 4 relative to 2 and 4 times it. Leaves 4 replicas."""
    rates = {}
    for replicas in (1, 2, 4):
        if replicas > 1:
            await deployment.scale(replicas)
        rates[replicas] = await tokens_per_s(deployment, replicas, seconds)
    linear = {f"linear_{count}": round(rates[count] / rates[1] / count, 3) for count in (2, 4)}
    return {"tokens_per_s_1": round(rates[1], 1)} | linear


async def measure_failure(deployment: Deployment, names: Collection[str], fail: Callable[[], None]) -> Failure:
    """Makes some replicas fail under a load that the others can serve.

    Args:
        names: the replicas that fail.
        fail: what ends them.
    """
    async with load(deployment.gateway.base_url, 2 * RUNNING) as running:
        await asyncio.sleep(_SETTLE_S)
        dead = {deployment.program(name) for name in names}
        before = {name: deployment.engines[name].pid for name in names}
        began = time.monotonic()
        failing = asyncio.create_task(asyncio.to_thread(fail))
        await deployment.until(
            lambda: deployment.all_ready() and all(deployment.engines[name].pid != before[name] for name in names)
        )
        recovery_s = time.monotonic() - began
        await failing
        await asyncio.sleep(_SETTLE_S)
    lost = running.lost()
    with_them = sum(stream.engine in dead for stream in lost)
    return Failure(round(recovery_s, 2), len(running.streams), with_them, len(lost) - with_them)


async def added_ms(deployment: Deployment, count: int) -> dict[str, float]:
    """The milliseconds that the gateway adds, at the median and the 99th percentile."""
    settings = deployment.gateway.settings
    engine, key = deployment.engines[MODEL].address, engine_key(read_key(settings.home), MODEL)
    measured = await latencies_ms({"direct": (f"{engine}/v1", key), "gateway": (settings.gateway_url, "")}, count)
    quantiles = {name: sorted(values) for name, values in measured.items()}
    added = {}
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        at = int(share * (count - 1))
        added[f"added_{label}_ms"] = round(quantiles["gateway"][at] - quantiles["direct"][at], 2)
    return added
