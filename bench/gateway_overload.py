"""The overload of `bench.gateway`: ten times more requests than are let in, at once, again and again.

What it asks: how soon the excess hears its 429, that the rest is answered whole, and that the gateway's memory is the
same after the last wave as after the first.
"""

import json
from typing import Any

from bench.gateway_arms import Arm
from bench.gateway_client import answers, middle
from bench.gateway_mock import CHUNKS, WORD
from bench.gateway_rounds import BODY

TIMES = 10


async def overload(arm: Arm, room: int, waves: int) -> dict[str, Any]:
    """Sends waves of `TIMES * room` streams to a gateway that lets `room` of them in, running or waiting.

    Raises:
        ConnectionError: something else than 200 and 429 came, or a stream was not whole.
    """
    client = arm.client
    await client.open(TIMES * room)
    request = client.written(json.dumps(BODY | {"stream": True}).encode())
    refused_ms: list[float] = []
    served, memory = 0, []
    for _ in range(waves):
        for reply in await answers(client, [request] * (TIMES * room), TIMES * room):
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
