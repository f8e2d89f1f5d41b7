"""The overload part of `bench.gateway`: waves of ten times as many streams as the gateway may forward.

It measures how fast the excess gets its 429, checks that the rest is answered whole, and measures how much memory the
gateway gains between the first and the last wave.
"""

import asyncio
import json
import time
from typing import Any

from bench.gateway.client import Client, Response, quantile
from bench.gateway.measurements import BODY
from bench.gateway.mock_upstream import CHUNKS, PACE_S, WORD
from bench.gateway.targets import Target

FACTOR = 10


async def measure_overload(target: Target, capacity: int, waves: int, wave_s: float) -> dict[str, Any]:
    """Sends waves of streams to a gateway with `capacity` running and as many queued requests.

    Raises:
        ConnectionError: a status is neither 200 nor 429, or a stream is not whole.
    """
    request = target.client.encode_request(json.dumps(BODY | {"stream": True}).encode())
    refused_ms: list[float] = []
    served, memory = 0, []
    for _ in range(waves):
        for response in await _wave(target.client, request, FACTOR * capacity / (CHUNKS * PACE_S), wave_s):
            if response.status == 429:
                refused_ms.append(response.seconds * 1e3)
            elif response.status == 200 and response.body.count(WORD) == CHUNKS:
                served += 1
            else:
                raise ConnectionError(f"status {response.status}: {response.body[-200:].decode(errors='replace')}")
        await target.settle()
        memory.append(target.memory_mib())
    return {
        "overload_times": FACTOR,
        "overload_served": served,
        "overload_refused": len(refused_ms),
        "overload_429_ms": round(quantile(refused_ms, 0.99), 1) if refused_ms else None,
        "overload_memory_growth_mib": round(memory[-1] - memory[0], 1),
    }


async def _wave(client: Client, request: bytes, rate: float, seconds: float) -> list[Response]:
    """Sends `rate` requests per second, whether or not earlier ones are answered."""
    sent: list[asyncio.Task[Response]] = []
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < seconds:
        while len(sent) < now * rate:
            sent.append(asyncio.ensure_future(client.send(request)))
        await asyncio.sleep(0.001)
    return await asyncio.gather(*sent)
