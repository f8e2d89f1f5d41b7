"""The measurements of `bench.gateway` with the mock: every target in every round, compared with direct in that round.

It starts no process. The targets' order rotates with each round, so that a machine that becomes slower or faster
favours none.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.gateway.client import Client, Response, StreamResult, measure_streams, quantile, time_requests
from bench.gateway.mock_upstream import CHUNKS, PACE_S, WORD
from bench.gateway.targets import DIRECT, Target
from bench.progress import print_progress

BODY: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "Where is my order? " * 10}]}
MOST = (512, 256)
_SUSTAINED = 0.95  # share of the mock's nominal chunks per second
_LONG_BYTES = 400_000
_AT_ONCE = 32
FACTOR = 10


@dataclass(frozen=True)
class Workload:
    """Sizes: seconds of back-to-back requests, single requests, streams in sequence, long prompts."""

    flood_s: float = 1.0
    alone: int = 300
    streams: int = 3
    long: int = 30


QUICK = Workload(flood_s=0.1, alone=40, streams=2, long=5)


@dataclass
class Samples:
    """One target's results, a value per round. Latencies and ratios are relative to direct."""

    request_us: list[float] = field(default_factory=list)
    chunk_us: list[float] = field(default_factory=list)
    requests_per_s: list[float] = field(default_factory=list)
    added_p50_ms: list[float] = field(default_factory=list)
    added_p99_ms: list[float] = field(default_factory=list)
    added_long_ms: list[float] = field(default_factory=list)
    ratio_128: list[float] = field(default_factory=list)
    ratio_most: list[float] = field(default_factory=list)
    missing: int = 0
    hashes: set[str] = field(default_factory=set)

    def figures(self) -> dict[str, Any]:
        """The medians under their printed names."""
        return {
            "cpu_us_per_request": _median(self.request_us, 1),
            "cpu_us_per_chunk": _median(self.chunk_us, 1),
            "requests_per_s": _median(self.requests_per_s, 0),
            "added_p50_ms": _median(self.added_p50_ms, 3),
            "added_p99_ms": _median(self.added_p99_ms, 3),
            "added_400kb_ms": _median(self.added_long_ms, 3),
            "paced_ratio_128": _median(self.ratio_128, 3),
            "paced_ratio_most": _median(self.ratio_most, 3),
            "frames_missing": self.missing,
        }


@dataclass(frozen=True)
class Measurements:
    """All targets' samples by name; `most` is the number of streams that direct sustains, 0 if not even the fewest."""

    samples: dict[str, Samples]
    most: int


async def measure_targets(targets: Sequence[Target], rounds: int, workload: Workload) -> Measurements:
    """Measures every target; the first is direct.

    Raises:
        ConnectionError: a target refuses a request or breaks a response.
    """
    samples = {target.name: Samples() for target in targets}
    # Requests that a target handles in about a second: a slow target gets fewer.
    counts = {target.name: await _count(target, workload.flood_s) for target in targets}
    most = await _most(targets[0], workload)
    for number in range(rounds):
        turn = number % len(targets)
        order = [*targets[turn:], *targets[:turn]]
        print_progress(f"round {number + 1} of {rounds}")
        for target in order:
            await _measure_requests(target, samples[target.name], counts[target.name])
            await target.settle()
        for target in order:
            if target.name != DIRECT:
                await _measure_latency(targets[0], target, samples[target.name], workload)
        rates: dict[tuple[str, int], float] = {}
        for count in (128, most) if most else (128,):
            for target in order:
                result = await _measure_streams(target, samples[target.name], count, workload)
                rates[target.name, count] = result.rate
                await target.settle()
        for target in targets:
            samples[target.name].ratio_128.append(rates[target.name, 128] / rates[DIRECT, 128])
            if most:
                samples[target.name].ratio_most.append(rates[target.name, most] / rates[DIRECT, most])
    return Measurements(samples, most)


async def _count(target: Target, seconds: float) -> int:
    request = target.client.encode_request(json.dumps(BODY).encode())
    await time_requests(target.client, request, 64, _AT_ONCE)  # warm-up
    rate = 192 / await time_requests(target.client, request, 192, _AT_ONCE)
    return int(min(max(rate * seconds, 64), 20_000))


async def _most(direct: Target, workload: Workload) -> int:
    for count in MOST:
        # Twice, so that one busy moment of the machine does not decide.
        rates = [(await _streams(direct.client, count, workload)).rate for _ in range(2)]
        if max(rates) >= _SUSTAINED * count / PACE_S:
            return count
        print_progress(f"direct does not sustain {count} streams: {max(rates):,.0f} chunks/s")
    return 0


async def _measure_requests(target: Target, samples: Samples, count: int) -> None:
    before = target.cpu_s()
    took = await time_requests(target.client, target.client.encode_request(json.dumps(BODY).encode()), count, _AT_ONCE)
    samples.request_us.append((target.cpu_s() - before) / count * 1e6)
    samples.requests_per_s.append(count / took)


async def _measure_latency(direct: Target, target: Target, samples: Samples, workload: Workload) -> None:
    """The added latency: each request is sent right after the same request sent directly."""
    short = json.dumps(BODY).encode()
    added = await _added_ms(direct.client, target.client, short, workload.alone)
    samples.added_p50_ms.append(median(added))
    samples.added_p99_ms.append(quantile(added, 0.99))
    long = json.dumps(BODY | {"messages": [{"role": "user", "content": "word " * (_LONG_BYTES // 5)}]}).encode()
    samples.added_long_ms.append(median(await _added_ms(direct.client, target.client, long, workload.long)))


async def _added_ms(direct: Client, through: Client, body: bytes, count: int) -> list[float]:
    added = []
    requests = direct.encode_request(body), through.encode_request(body)
    for _ in range(count):
        early = await direct.send(requests[0])
        late = await through.send(requests[1])
        if (early.status, late.status) != (200, 200):
            raise ConnectionError(f"status {late.status}: {late.body[:200].decode(errors='replace')}")
        added.append((late.seconds - early.seconds) * 1e3)
    return added


async def _measure_streams(target: Target, samples: Samples, count: int, workload: Workload) -> StreamResult:
    before = target.cpu_s()
    result = await _streams(target.client, count, workload)
    if count == 128 and result.chunks:
        # Without the cost of the request itself.
        spent = (target.cpu_s() - before) * 1e6 / result.chunks
        samples.chunk_us.append(spent - samples.request_us[-1] / CHUNKS)
    samples.missing += result.missing
    samples.hashes |= result.hashes
    return result


async def _streams(client: Client, count: int, workload: Workload) -> StreamResult:
    request = client.encode_request(json.dumps(BODY | {"stream": True}).encode())
    return await measure_streams(client, request, count, workload.streams)


def _median(values: Sequence[float], digits: int) -> float | None:
    return round(median(values), digits) if values else None


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
