"""The overload of `bench.gateway`: streams come ten times as fast as the gateway may pass them on, wave after wave.

What it asks: how soon the excess hears its 429, that the rest is answered whole, and that the gateway's memory is the
same after the last wave as after the first.
"""

import asyncio
import json
import time
from typing import Any

from bench.gateway_arms import Arm
from bench.gateway_client import Client, Reply, middle
from bench.gateway_mock import CHUNKS, PACE_S, WORD
from bench.gateway_rounds import BODY

TIMES = 10


async def overload(arm: Arm, room: int, waves: int, wave_s: float) -> dict[str, Any]:
    """Sends streams to a gateway that has `room` of them running at once (and as many waiting), for `waves` waves.

    Raises:
        ConnectionError: something else than 200 and 429 came, or a stream was not whole.
    """
    request = arm.client.written(json.dumps(BODY | {"stream": True}).encode())
    refused_ms: list[float] = []
    served, memory = 0, []
    for _ in range(waves):
        for reply in await _wave(arm.client, request, TIMES * room / (CHUNKS * PACE_S), wave_s):
            if reply.status == 429:
                refused_ms.append(reply.seconds * 1e3)
            elif reply.status == 200 and reply.body.count(WORD) == CHUNKS:
                served += 1
            else:
                raise ConnectionError(f"status {reply.status}: {reply.body[-200:].decode(errors='replace')}")
        await arm.settle()
        memory.append(arm.memory_mib())
    return {
        "overload_times": TIMES,
        "overload_served": served,
        "overload_refused": len(refused_ms),
        "overload_429_ms": round(middle(refused_ms, 0.99), 1) if refused_ms else None,
        "overload_memory_growth_mib": round(memory[-1] - memory[0], 1),
    }


async def _wave(client: Client, request: bytes, rate: float, seconds: float) -> list[Reply]:
    """`rate` requests a second for so many seconds, whether the earlier ones were answered or not."""
    asked: list[asyncio.Task[Reply]] = []
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        while len(asked) < now * rate:
            asked.append(asyncio.ensure_future(client.ask(request)))
        await asyncio.sleep(0.001)
    return await asyncio.gather(*asked)
