"""Part A of the fault bench: every fault of `bench.faults_proxy` on both routes, asked by the SDK and by raw bytes.

It judges what clients saw and what the upstream was asked. The gateway is somebody else's: `bench.faults` starts one.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, Protocol

import httptools
import openai

from bench.faults_proxy import FAULTS, Door, Fault, FaultProxy, Sight

Client = Literal["sdk", "raw"]
TOTAL = 3.5  # an answer's time in all, in silences
_PATIENCE_S = 30.0
_RECOVERED_WITHIN_S = 20.0
_WHOLE = openai.types.chat.ChatCompletion


class House(Protocol):
    """What is needed of a gateway: its address, and a way to say which model is where."""

    base_url: str

    def add(self, models: "Sequence[Model]") -> None:
        """Registers the models, and returns once the gateway knows them."""
        ...


@dataclass(frozen=True)
class Case:
    """A fault on a route: asked for a stream or not, by the SDK or by raw bytes. `spare`: a good model stands in."""

    fault: Fault
    hosted: bool
    stream: bool
    client: Client
    spare: bool = False
    run: int = 0

    @property
    def model(self) -> str:
        """The id of the model that stands for this case."""
        words = (self.fault.name, self.route, "stream" if self.stream else "whole")
        return "-".join([*words, self.client, str(self.run)]).replace(" ", "-").replace(",", "")

    @property
    def route(self) -> str:
        """What kind of a model it is, in a word."""
        return "spared" if self.spare else "hosted" if self.hosted else "engine"

    @property
    def sight(self) -> Sight:
        """What the client should see."""
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
class Seen:
    """What one client saw. `text` is the content that it would show; `error` the class or words of what it raised."""

    sight: Sight | Literal["truncated", "lost"]
    status: int
    text: str
    error: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """A case's rounds. `slowest_s` is against `within_s`; `recovered_s`: from healed to the first good answer."""

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
class Neighbour:
    """Healthy streams beside the faults: how many were asked, how many came whole, the longest in seconds."""

    streams: int
    whole: int
    slowest_s: float


@dataclass(frozen=True)
class Report:
    """All of part A."""

    rows: tuple[Row, ...]
    neighbour: Neighbour

    @property
    def complaints(self) -> list[str]:
        """Everything that was not as it should be, one line each."""
        found = [f"{row.case}: {complaint}" for row in self.rows for complaint in row.complaints]
        missing = self.neighbour.streams - self.neighbour.whole
        return found + [f"{missing} healthy streams beside the faults were not whole"] * bool(missing)


def patience(silence_s: float) -> dict[str, float]:
    """A gateway's settings under which it waits no longer than so for a silent upstream, nor much longer for any."""
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


class Once:
    """The faults before one house. `run` may be called again: each time the models are others.

    Args:
        upstream: the address, without `/v1`, of a healthy server that answers a question always alike.
        silence_s: the house's patience with a silent upstream, as it was set.
        slack_s: what an answer may take beside that; the gateway looks at its clocks once a second.
    """

    def __init__(self, house: House, upstream: str, *, silence_s: float, slack_s: float = 3.0) -> None:
        self._house = house
        self._upstream = upstream
        self._silence_s = silence_s
        self._slack_s = slack_s
        self._runs = 0
        self._names: list[str] = []

    async def again(self, rounds: int) -> None:
        """Asks the last run's models again, the good and those whose servers are gone; nobody judges what they see."""
        turns = asyncio.Semaphore(16)
        async with openai.AsyncOpenAI(base_url=self._house.base_url, api_key="any", max_retries=0) as sdk:
            asking = Asking(sdk, self._house.base_url, {})

            async def one(name: str) -> None:
                async with turns:
                    await asking.ask("raw", name, "again", True)

            await asyncio.gather(*(one(name) for name in self._names * rounds))

    async def run(self, chosen: Sequence[Case], *, rounds: int, at_once: int = 1) -> Report:
        """Runs the cases, `rounds` requests of each at once, and `at_once` cases beside one another."""
        self._runs += 1
        chosen = [replace(case, run=self._runs) for case in chosen]
        good = (f"good-hosted-{self._runs}", f"good-engine-{self._runs}")
        base_url, upstream = self._house.base_url, self._upstream
        with FaultProxy(upstream, self._silence_s) as proxy:
            doors = {case: proxy.door(case.fault) for case in chosen}
            known = [
                Model(case.model, door.address, case.hosted, good[:1] if case.spare else ())
                for case, door in doors.items()
            ]
            self._house.add([Model(good[0], upstream, True), Model(good[1], upstream, False), *known])
            # As many that answer as that do not.
            self._names = [model.name for model in known] + list(good) * (len(known) // 2)
            async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as sdk:
                asking = Asking(sdk, base_url, await texts(f"{upstream}/v1"))
                turns, stop = asyncio.Semaphore(at_once), asyncio.Event()

                async def row(case: Case) -> Row:
                    async with turns:
                        within = _within(case.fault, self._silence_s) + self._slack_s
                        return await _row(asking, proxy, case, doors[case], rounds, within)

                beside = asyncio.create_task(_beside(asking, good, stop))
                rows = await asyncio.gather(*map(row, chosen))
                stop.set()
                return Report(tuple(rows), await beside)


async def _row(asking: "Asking", proxy: FaultProxy, case: Case, door: Door, rounds: int, within: float) -> Row:
    words = [f"round {number}" for number in range(rounds)]
    seen = await asyncio.gather(*(asking.ask(case.client, case.model, one, case.stream) for one in words))
    complaints = [complaint for one in seen for complaint in judge(case, one, asking.texts[case.stream], within)]
    good = sum(not judge(case, one, asking.texts[case.stream], within) for one in seen)
    most = max((door.asked[one] for one in words), default=0)
    # Once the first byte is there, or where asking costs money, nothing is asked twice.
    allowed = 1 if case.hosted or not case.fault.early else 2
    if most > allowed:
        complaints.append(f"the upstream was asked {most} times for one request")
    await asyncio.to_thread(proxy.heal, door)
    recovered = await _recovered(asking, case)
    if recovered is None:
        complaints.append(f"not usable {_RECOVERED_WITHIN_S:.0f} s after the upstream was well again")
    return Row(
        case=case.model, fault=case.fault.name, route=case.route,
        asked="stream" if case.stream else "whole", client=case.client, rounds=rounds, good=good,
        slowest_s=round(max(one.seconds for one in seen), 2), within_s=within, most_asked=most,
        recovered_s=round(recovered or _RECOVERED_WITHIN_S, 2), complaints=tuple(dict.fromkeys(complaints)),
    )  # fmt: skip


def _within(fault: Fault, silence_s: float) -> float:
    """Seconds that the fault itself takes."""
    if fault.name == "drips":
        return silence_s * 0.3 * 9
    if fault.name == "drips without end":
        return silence_s * TOTAL
    return silence_s if fault.waits else 0.0


def judge(case: Case, seen: Seen, text: str, within_s: float) -> list[str]:
    """What is wrong with what a client saw; empty where nothing is."""
    wrong = []
    # A reset takes along what was not read yet, on a busy machine the beginning too: an error all the same.
    early = case.sight == "broken" and seen.sight == "refused"
    if seen.sight != case.sight and not early:
        wrong.append(f"{seen.sight} and not {case.sight} (status {seen.status}, {seen.error[:80]!r})")
    elif seen.sight == "refused" and seen.status not in case.fault.statuses:
        wrong.append(f"status {seen.status}")
    if seen.sight == "whole" and seen.text != text:
        wrong.append(f"another text: {seen.text[:60]!r}")
    if seen.sight in ("broken", "unreadable") and not text.startswith(seen.text):
        wrong.append(f"a wrong beginning: {seen.text[:60]!r}")
    if seen.seconds > within_s:
        wrong.append(f"later than {within_s:.1f} s")
    return wrong


async def _recovered(asking: "Asking", case: Case) -> float | None:
    began = time.monotonic()
    while (took := time.monotonic() - began) < _RECOVERED_WITHIN_S:
        seen = await asking.ask(case.client, case.model, "again", case.stream)
        if seen.sight == "whole" and seen.text == asking.texts[case.stream]:
            return took
        await asyncio.sleep(0.1)
    return None


async def _beside(asking: "Asking", models: Sequence[str], stop: asyncio.Event) -> Neighbour:
    seen = []
    while not stop.is_set():
        pair = [asking.ask("sdk", name, "beside", True) for name in models]
        seen += await asyncio.gather(*pair)
        await asyncio.sleep(0.02)
    whole = sum(one.sight == "whole" and one.text == asking.texts[True] for one in seen)
    return Neighbour(len(seen), whole, round(max((one.seconds for one in seen), default=0.0), 2))


async def texts(base_url: str) -> dict[bool, str]:
    """What a healthy server answers, asked for a stream (True) and not (False)."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key="any", max_retries=0) as sdk:
        asking = Asking(sdk, base_url, {})
        return {stream: (await asking.ask("raw", "any", "hello", stream)).text for stream in (True, False)}


class Asking:
    """Asks a gateway as its clients do. `texts`: the healthy upstream's answers, as a stream (True) and whole."""

    def __init__(self, sdk: openai.AsyncOpenAI, base_url: str, texts: dict[bool, str]) -> None:
        self.texts = texts
        self._sdk = sdk
        host, port = base_url.removeprefix("http://").removesuffix("/v1").split(":")
        self._place = (host, int(port))

    async def ask(self, client: Client, model: str, words: str, stream: bool) -> Seen:
        """One request; whatever happens to it is told, not raised."""
        began = time.monotonic()
        asked = self._by_sdk if client == "sdk" else self._by_hand
        try:
            async with asyncio.timeout(_PATIENCE_S):
                seen = await asked(model, words, stream)
        except TimeoutError:
            seen = Seen("lost", 0, "", "no end of it", 0.0)
        return replace(seen, seconds=time.monotonic() - began)

    async def _by_sdk(self, model: str, words: str, stream: bool) -> Seen:
        text, status = "", 0
        asked: Any = {"model": model, "messages": [{"role": "user", "content": words}]}
        try:
            if not stream:
                answer = await self._sdk.chat.completions.create(**asked)
                if not isinstance(answer, _WHOLE) or not answer.choices:
                    return Seen("truncated", 200, "", f"the SDK made {type(answer).__name__} of it", 0)
                return Seen("whole", 200, answer.choices[0].message.content or "", "", 0)
            async with await self._sdk.chat.completions.create(**asked, stream=True) as chunks:
                status = 200
                async for chunk in chunks:
                    text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
        except openai.APIStatusError as error:
            return Seen("refused", error.status_code, text, f"{type(error).__name__}: {error.message}", 0)
        except openai.APIConnectionError as error:
            return Seen("lost", status, text, f"{type(error).__name__}: {error.__cause__!r}", 0)
        except openai.APIError as error:  # an error frame
            return Seen("broken", status, text, f"{type(error).__name__}: {error.message}", 0)
        except ValueError as error:  # what came is no JSON
            return Seen("unreadable", status, text, f"{type(error).__name__}: {error}", 0)
        # The SDK takes any end of a stream for its end: whether this one was whole, its text tells.
        return Seen("whole" if text == self.texts[True] else "truncated", 200, text, "", 0)

    async def _by_hand(self, model: str, words: str, stream: bool) -> Seen:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": words}], "stream": stream}).encode()
        try:
            reader, writer = await asyncio.open_connection(*self._place)
            writer.write(
                b"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
            )
            data = await reader.read(-1)
            writer.close()
        except OSError as error:
            return Seen("lost", 0, "", repr(error), 0)
        return read_bytes(data, stream)


class _Whole:
    """What httptools finds in an answer's bytes."""

    def __init__(self) -> None:
        self.body, self.complete = b"", False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_bytes(data: bytes, stream: bool) -> Seen:
    """Judges an answer by its bytes alone: HTTP's own end, then the stream's or the JSON's."""
    found = _Whole()
    parser = httptools.HttpResponseParser(found)
    try:
        parser.feed_data(data)
    except httptools.HttpParserError as error:
        return Seen("lost", 0, "", f"no HTTP: {error}", 0)
    if not found.complete:
        return Seen("truncated", 0, "", f"HTTP's own end is missing after {len(data)} bytes", 0)
    status = parser.get_status_code()
    if status >= 300 or not stream:
        try:
            content = json.loads(found.body)
        except ValueError:
            return Seen("unreadable", status, "", found.body[:80].decode("utf-8", "replace"), 0)
        if status < 300 and isinstance(content, dict) and content.get("choices"):
            return Seen("whole", status, content["choices"][0]["message"]["content"], "", 0)
        shaped = set(content.get("error", ())) == {"message", "type", "param", "code"}
        return Seen("refused" if shaped else "unreadable", status, "", str(content)[:120], 0)
    return _read_frames(found.body, status)


def _read_frames(body: bytes, status: int) -> Seen:
    text, done, odd, error = "", False, False, ""
    for frame in body.split(b"\n\n"):
        if not frame.strip():
            continue
        if done or error:
            return Seen("truncated", status, text, f"more after the end: {frame[:60]!r}", 0)
        if frame == b"data: [DONE]":
            done = True
            continue
        try:
            content = json.loads(frame.removeprefix(b"data: "))
        except ValueError:
            odd = True
            continue
        if "error" in content:
            error = str(content["error"])
        elif content.get("choices") and not odd:
            text += content["choices"][0]["delta"].get("content") or ""
    if error:
        return Seen("broken", status, text, error, 0)
    if odd:
        return Seen("unreadable", status, text, "a frame that is no JSON", 0)
    return Seen("whole" if done else "truncated", status, text, "", 0)
