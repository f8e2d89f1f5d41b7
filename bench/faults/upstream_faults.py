"""The path part of `bench.faults`: each fault of `bench.faults.proxy` on each route, by the SDK and by raw bytes.

It judges what clients see and how often the upstream is asked. The caller starts the gateway.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Protocol

import openai

from bench.faults.client import Client, FaultClient, Observation, healthy_answers
from bench.faults.proxy import FAULTS, Endpoint, Fault, FaultProxy, Outcome

TOTAL = 3.5  # total_timeout_s, in multiples of the idle timeout
_RECOVERED_WITHIN_S = 20.0


class Gateway(Protocol):
    """A running gateway to which models can be added."""

    base_url: str

    def add(self, models: "Sequence[Model]") -> None:
        """Registers the models; returns when the gateway lists them."""
        ...


@dataclass(frozen=True)
class Case:
    """A fault on a route, as a stream or not, by the SDK or by raw bytes. `spare`: a healthy fallback exists."""

    fault: Fault
    hosted: bool
    stream: bool
    client: Client
    spare: bool = False
    run: int = 0

    @property
    def model(self) -> str:
        """The id of this case's model."""
        parts = (self.fault.name, self.route, "stream" if self.stream else "whole", self.client, str(self.run))
        return "-".join(parts).replace(" ", "-").replace(",", "")

    @property
    def route(self) -> str:
        """The kind of route: engine, hosted, or hosted with a fallback (spared)."""
        return "spared" if self.spare else "hosted" if self.hosted else "engine"

    @property
    def outcome(self) -> Outcome:
        """What the client is expected to see."""
        if self.spare and self.fault.early:
            return "whole"
        return self.fault.stream if self.stream else self.fault.plain


@dataclass(frozen=True)
class Model:
    """A model of the bench's gateway: an engine, or a hosted one (with fallbacks), at an address without `/v1`."""

    name: str
    address: str
    hosted: bool
    fallbacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """All requests of one case. `within_s` limits `slowest_s`; `recovered_s`: from healing to the first good answer."""

    case: str
    fault: str
    route: str
    asked: str
    client: str
    rounds: int
    good: int
    slowest_s: float
    within_s: float
    most_asked: int
    recovered_s: float
    complaints: tuple[str, ...]


@dataclass(frozen=True)
class HealthyStreams:
    """Healthy streams sent meanwhile: how many, how many arrived whole, the slowest in seconds."""

    streams: int
    whole: int
    slowest_s: float


@dataclass(frozen=True)
class Report:
    """All results."""

    rows: tuple[Row, ...]
    neighbour: HealthyStreams

    @property
    def complaints(self) -> list[str]:
        """All violated expectations, one line each."""
        complaints = [f"{row.case}: {complaint}" for row in self.rows for complaint in row.complaints]
        missing = self.neighbour.streams - self.neighbour.whole
        return complaints + [f"{missing} healthy streams sent meanwhile were not whole"] * bool(missing)


def timeout_settings(silence_s: float) -> dict[str, float]:
    """A gateway's timeout settings: `silence_s` for a silent upstream, TOTAL times that for a whole answer."""
    names = ("connect_timeout_s", "first_byte_timeout_s", "idle_timeout_s")
    return dict.fromkeys(names, silence_s) | {"total_timeout_s": TOTAL * silence_s}


def cases(faults: Sequence[Fault] = FAULTS) -> list[Case]:
    """Faults × (engine, hosted, hosted with a fallback) × (stream, not) × (SDK, raw)."""
    clients: tuple[Client, ...] = ("sdk", "raw")
    routes = ((False, False), (True, False), (True, True))
    return [
        Case(fault, hosted, stream, client, spare)
        for fault, (hosted, spare), stream, client in product(faults, routes, (True, False), clients)
    ]


class FaultRun:
    """Runs cases against one gateway. Each call of `run` registers new models.

    Args:
        upstream: the address, without `/v1`, of a healthy server with constant answers.
        silence_s: the gateway's timeout for a silent upstream.
        slack_s: seconds an answer may take beyond that; the gateway checks its timeouts once a second.
    """

    def __init__(self, gateway: Gateway, upstream: str, *, silence_s: float, slack_s: float = 3.0) -> None:
        self._gateway = gateway
        self._upstream = upstream
        self._silence_s = silence_s
        self._slack_s = slack_s
        self._runs = 0
        self._names: list[str] = []

    async def repeat(self, rounds: int) -> None:
        """Sends requests to the last run's models again, healthy and failing, without judging the answers."""
        limiter = asyncio.Semaphore(16)
        async with openai.AsyncOpenAI(base_url=self._gateway.base_url, api_key="any", max_retries=0) as sdk:
            client = FaultClient(sdk, self._gateway.base_url, {})

            async def send(name: str) -> None:
                async with limiter:
                    await client.ask("raw", name, "again", True)

            await asyncio.gather(*(send(name) for name in self._names * rounds))

    async def run(self, chosen: Sequence[Case], *, rounds: int, at_once: int = 1) -> Report:
        """Runs the cases, `at_once` of them concurrently, each with `rounds` concurrent requests."""
        self._runs += 1
        chosen = [replace(case, run=self._runs) for case in chosen]
        good = (f"good-hosted-{self._runs}", f"good-engine-{self._runs}")
        base_url, upstream = self._gateway.base_url, self._upstream
        with FaultProxy(upstream, self._silence_s) as proxy:
            endpoints = {case: proxy.endpoint(case.fault) for case in chosen}
            known = [
                Model(case.model, endpoint.address, case.hosted, good[:1] if case.spare else ())
                for case, endpoint in endpoints.items()
            ]
            self._gateway.add([Model(good[0], upstream, True), Model(good[1], upstream, False), *known])
            # Half of them answer, half fail.
            self._names = [model.name for model in known] + list(good) * (len(known) // 2)
            async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as sdk:
                client = FaultClient(sdk, base_url, await healthy_answers(f"{upstream}/v1"))
                limiter, stop = asyncio.Semaphore(at_once), asyncio.Event()

                async def row(case: Case) -> Row:
                    async with limiter:
                        within = _fault_seconds(case.fault, self._silence_s) + self._slack_s
                        return await _row(client, proxy, case, endpoints[case], rounds, within)

                healthy = asyncio.create_task(_stream_healthy(client, good, stop))
                rows = await asyncio.gather(*map(row, chosen))
                stop.set()
                return Report(tuple(rows), await healthy)


async def _row(
    client: FaultClient, proxy: FaultProxy, case: Case, endpoint: Endpoint, rounds: int, within: float
) -> Row:
    texts = [f"round {number}" for number in range(rounds)]
    observations = await asyncio.gather(*(client.ask(case.client, case.model, text, case.stream) for text in texts))
    judged = [judge(case, observation, client.texts[case.stream], within) for observation in observations]
    complaints = [complaint for violations in judged for complaint in violations]
    most = max((endpoint.requests[text] for text in texts), default=0)
    # No retry after the first byte, nor where a request costs money.
    allowed = 1 if case.hosted or not case.fault.early else 2
    if most > allowed:
        complaints.append(f"the upstream was asked {most} times for one request")
    await asyncio.to_thread(proxy.heal, endpoint)
    recovered = await _recovered(client, case)
    if recovered is None:
        complaints.append(f"no good answer within {_RECOVERED_WITHIN_S:.0f} s after the upstream recovered")
    return Row(
        case=case.model, fault=case.fault.name, route=case.route,
        asked="stream" if case.stream else "whole", client=case.client, rounds=rounds, good=judged.count([]),
        slowest_s=round(max(observation.seconds for observation in observations), 2), within_s=within, most_asked=most,
        recovered_s=round(recovered or _RECOVERED_WITHIN_S, 2), complaints=tuple(dict.fromkeys(complaints)),
    )  # fmt: skip


def _fault_seconds(fault: Fault, silence_s: float) -> float:
    """Seconds the fault itself takes."""
    if fault.name == "drips":
        return silence_s * 0.3 * 9
    if fault.name == "drips without end":
        return silence_s * TOTAL
    return silence_s if fault.waits else 0.0


def judge(case: Case, observation: Observation, text: str, within_s: float) -> list[str]:
    """The ways in which an observation violates the case's expectations."""
    wrong = []
    # A reset discards unread bytes, on a busy machine even the first: still an error for the client.
    early = case.outcome == "broken" and observation.outcome == "refused"
    if observation.outcome != case.outcome and not early:
        details = f"status {observation.status}, {observation.error[:80]!r}"
        wrong.append(f"{observation.outcome}, expected {case.outcome} ({details})")
    elif observation.outcome == "refused" and observation.status not in case.fault.statuses:
        wrong.append(f"status {observation.status}")
    if observation.outcome == "whole" and observation.text != text:
        wrong.append(f"different text: {observation.text[:60]!r}")
    if observation.outcome in ("broken", "unreadable") and not text.startswith(observation.text):
        wrong.append(f"wrong beginning: {observation.text[:60]!r}")
    if observation.seconds > within_s:
        wrong.append(f"took over {within_s:.1f} s")
    return wrong


async def _recovered(client: FaultClient, case: Case) -> float | None:
    began = time.monotonic()
    while (took := time.monotonic() - began) < _RECOVERED_WITHIN_S:
        observation = await client.ask(case.client, case.model, "again", case.stream)
        if observation.outcome == "whole" and observation.text == client.texts[case.stream]:
            return took
        await asyncio.sleep(0.1)
    return None


async def _stream_healthy(client: FaultClient, models: Sequence[str], stop: asyncio.Event) -> HealthyStreams:
    observations: list[Observation] = []
    while not stop.is_set():
        observations += await asyncio.gather(*(client.ask("sdk", name, "healthy", True) for name in models))
        await asyncio.sleep(0.02)
    whole = sum(
        observation.outcome == "whole" and observation.text == client.texts[True] for observation in observations
    )
    slowest = max((observation.seconds for observation in observations), default=0.0)
    return HealthyStreams(len(observations), whole, round(slowest, 2))
