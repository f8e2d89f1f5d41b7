"""The rounds of `bench.gateway` on the mock: every arm after every other, each figure held against direct in its round.

It knows arms and figures, and starts nothing. The order of the arms turns with each round, so that a machine that gets
slower or faster meanwhile favours none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.asking import say
from bench.gateway_arms import DIRECT, Arm
from bench.gateway_client import Client, Streamed, flood, middle, streams
from bench.gateway_mock import CHUNKS, PACE_S

BODY: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "Where is my order? " * 10}]}
MOST = (512, 256)
_KEEPS_PACE = 0.95  # of the chunks a second that the mock's own clock would bring
_LONG_BYTES = 400_000
_AT_ONCE = 32


@dataclass(frozen=True)
class Amounts:
    """How much of each: seconds of requests back to back, requests alone, streams one after another, long prompts."""

    flood_s: float = 1.0
    alone: int = 300
    streams: int = 3
    long: int = 30


QUICK = Amounts(flood_s=0.1, alone=40, streams=2, long=5)


@dataclass
class Kept:
    """What one arm's rounds brought, a value for each round; all but the counts are held against direct."""

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
        """The medians, under the names that the bench prints."""
        return {
            "cpu_us_per_request": _middle(self.request_us, 1),
            "cpu_us_per_chunk": _middle(self.chunk_us, 1),
            "requests_per_s": _middle(self.requests_per_s, 0),
            "added_p50_ms": _middle(self.added_p50_ms, 3),
            "added_p99_ms": _middle(self.added_p99_ms, 3),
            "added_400kb_ms": _middle(self.added_long_ms, 3),
            "paced_ratio_128": _middle(self.ratio_128, 3),
            "paced_ratio_most": _middle(self.ratio_most, 3),
            "frames_missing": self.missing,
        }


@dataclass(frozen=True)
class Rounds:
    """All arms' rounds by name; `most` is how many streams direct can pace, 0 where not even the fewest."""

    kept: dict[str, Kept]
    most: int


async def rounds_of(arms: Sequence[Arm], rounds: int, amounts: Amounts) -> Rounds:
    """Measures every arm. The first is direct.

    Raises:
        ConnectionError: an arm refuses or breaks what it should answer.
    """
    kept = {arm.name: Kept() for arm in arms}
    # What an arm does in a second or so: a slow one is asked less.
    counts = {arm.name: await _count(arm, amounts.flood_s) for arm in arms}
    most = await _most(arms[0], amounts)
    for number in range(rounds):
        turn = number % len(arms)
        order = [*arms[turn:], *arms[:turn]]
        say(f"round {number + 1} of {rounds}")
        for arm in order:
            await _requests(arm, kept[arm.name], counts[arm.name])
            await arm.settle()
        for arm in order:
            if arm.name != DIRECT:
                await _alone(arms[0], arm, kept[arm.name], amounts)
        rates: dict[tuple[str, int], float] = {}
        for count in (128, most) if most else (128,):
            for arm in order:
                found = await _paced(arm, kept[arm.name], count, amounts)
                rates[arm.name, count] = found.rate
                await arm.settle()
        for arm in arms:
            kept[arm.name].ratio_128.append(rates[arm.name, 128] / rates[DIRECT, 128])
            if most:
                kept[arm.name].ratio_most.append(rates[arm.name, most] / rates[DIRECT, most])
    return Rounds(kept, most)


async def _count(arm: Arm, seconds: float) -> int:
    request = arm.client.written(json.dumps(BODY).encode())
    await flood(arm.client, request, 64, _AT_ONCE)  # the first requests of a program are its slowest
    rate = 192 / await flood(arm.client, request, 192, _AT_ONCE)
    return int(min(max(rate * seconds, 64), 20_000))


async def _most(direct: Arm, amounts: Amounts) -> int:
    for count in MOST:
        # Twice: one busy moment of the machine shall not decide.
        rates = [(await _streams(direct.client, count, amounts)).rate for _ in range(2)]
        if max(rates) >= _KEEPS_PACE * count / PACE_S:
            return count
        say(f"direct does not keep its pace at {count} streams: {max(rates):,.0f} chunks/s")
    return 0


async def _requests(arm: Arm, kept: Kept, count: int) -> None:
    before = arm.cpu_s()
    took = await flood(arm.client, arm.client.written(json.dumps(BODY).encode()), count, _AT_ONCE)
    kept.request_us.append((arm.cpu_s() - before) / count * 1e6)
    kept.requests_per_s.append(count / took)


async def _alone(direct: Arm, arm: Arm, kept: Kept, amounts: Amounts) -> None:
    """Each request right after the same one sent directly: what is added is their difference."""
    short = json.dumps(BODY).encode()
    added = await _added(direct.client, arm.client, short, amounts.alone)
    kept.added_p50_ms.append(median(added))
    kept.added_p99_ms.append(middle(added, 0.99))
    long = json.dumps(BODY | {"messages": [{"role": "user", "content": "word " * (_LONG_BYTES // 5)}]}).encode()
    kept.added_long_ms.append(median(await _added(direct.client, arm.client, long, amounts.long)))


async def _added(direct: Client, through: Client, body: bytes, count: int) -> list[float]:
    added = []
    requests = direct.written(body), through.written(body)
    for _ in range(count):
        early = await direct.ask(requests[0])
        late = await through.ask(requests[1])
        if (early.status, late.status) != (200, 200):
            raise ConnectionError(f"status {late.status}: {late.body[:200].decode(errors='replace')}")
        added.append((late.seconds - early.seconds) * 1e3)
    return added


async def _paced(arm: Arm, kept: Kept, count: int, amounts: Amounts) -> Streamed:
    before = arm.cpu_s()
    found = await _streams(arm.client, count, amounts)
    if count == 128 and found.chunks:
        # What a request costs anyway is not the chunks'.
        spent = (arm.cpu_s() - before) * 1e6 / found.chunks
        kept.chunk_us.append(spent - kept.request_us[-1] / CHUNKS)
    kept.missing += found.missing
    kept.hashes |= found.hashes
    return found


async def _streams(client: Client, count: int, amounts: Amounts) -> Streamed:
    return await streams(client, client.written(json.dumps(BODY | {"stream": True}).encode()), count, amounts.streams)


def _middle(values: Sequence[float], digits: int) -> float | None:
    return round(median(values), digits) if values else None
