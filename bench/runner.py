"""The runner of `parley eval` against an upstream that answers after a fixed time: is it always full, what does it add?

    python -m bench.runner [--samples 640] [--concurrency 32] [--latency-s 1] [--rounds 2] [--json]

The upstream is a process of its own on a real socket and computes nothing, so what is over ceil(N/c) times the latency
is the runner's, the SDK's and the machine's. The sequential loop asks a share of the same questions through the same
SDK, one after the other, and is scaled up. Each round has a database of its own. With `--json` the last line is one
JSON object; the machine's load goes into it, since on a busy one the figures are worse than the runner.

    python -m bench.runner --engine http://127.0.0.1:8000/v1 --model NAME [--json]

holds the runner's tokens a second at a served model against a bare load generator's (asyncio sockets, no SDK, nothing
stored), in turns, the same questions, each answer forced to its full length.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from evals.tasks.runner import Batch, ask_all
from evals.tasks.task import TaskSample
from evals.tasks.task_rows import make_task
from models.completer import GatewayCompleter
from models.database import open_database, upgrade
from models.errors import Invalid
from models.settings import load_settings

_MODEL = "fixed"
_PARAMETERS = {"temperature": 0.0, "max_tokens": 64}
_SEQUENTIAL = 10  # questions that are asked one after the other


@dataclass(frozen=True)
class Round:
    """One round. Seconds: `asking` from the first request to the last answer, `whole` with the last answer stored."""

    asking: float
    whole: float
    sequential_each: float
    over_ideal: float
    times_faster_share: float


def measure(samples: int, concurrency: int, latency_s: float) -> Round:
    """One round against a fresh upstream and a fresh database.

    `over_ideal` is the whole time over ceil(N/c) × latency; `times_faster_share` how many times faster than the
    sequential loop it was, as a share of c.
    """
    asked = tuple(make_task("bench", "bench", [("", {"input": f"Question {i}?"}) for i in range(samples)]).samples)
    with upstream(latency_s) as address, tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
        settings = load_settings(home=Path(home))
        upgrade(settings)
        database = open_database(settings)

        async def run() -> tuple[float, float, float]:
            completer = GatewayCompleter(address, _MODEL, retries=0, many=True)
            try:
                each = await _sequential(completer, asked[:_SEQUENTIAL])
                began = time.perf_counter()
                found = await ask_all(
                    database, lambda model: completer, Batch([_MODEL], asked, _PARAMETERS, concurrency)
                )
                whole = time.perf_counter() - began
            finally:
                await completer.close()
            if any(outcome.answer is None for outcome in found.outcomes[_MODEL]):
                raise Invalid("The upstream failed: the figures would say nothing.")
            return found.seconds, whole, each

        asking, whole, each = asyncio.run(run())
        database.dispose()
    ideal = ceil(samples / concurrency) * latency_s
    return Round(asking, whole, each, whole / ideal, samples * each / whole / concurrency)


async def _sequential(completer: GatewayCompleter, samples: tuple[TaskSample, ...]) -> float:
    """Seconds for each question of a plain loop."""
    await completer(samples[0].messages, **_PARAMETERS)  # the SDK's imports and the first connection
    began = time.perf_counter()
    for sample in samples:
        await completer(sample.messages, **_PARAMETERS)
    return (time.perf_counter() - began) / len(samples)


@dataclass(frozen=True)
class Throughput:
    """Completion tokens a second of one pair of turns, and their ratio."""

    bare: float
    runner: float
    ratio: float


def throughput(engine: str, model: str, samples: int, concurrency: int, turn: int) -> Throughput:
    """One turn of the bare load generator and one of the runner at a served model; they begin by turns.

    Each has questions of its own, of the same length: an engine keeps what it has read before.
    """
    options = {"temperature": 0.0, "max_tokens": 64, "ignore_eos": True}

    def texts(who: str) -> list[str]:
        return [f"{turn}{who}: what should I do about order {i}?" for i in range(samples)]

    def bare_turn() -> float:
        began = time.perf_counter()
        tokens = asyncio.run(_bare(engine, model, texts("b"), options, concurrency))
        return tokens / (time.perf_counter() - began)

    def runner_turn() -> float:
        return _runner_tokens(engine, model, texts("r"), options, concurrency)

    if turn % 2:
        bare, runner = bare_turn(), runner_turn()
    else:
        runner, bare = runner_turn(), bare_turn()
    return Throughput(bare, runner, runner / bare)


def _runner_tokens(engine: str, model: str, texts: list[str], options: dict[str, Any], concurrency: int) -> float:
    """Completion tokens a second of the runner, over a database of its own."""
    asked = tuple(make_task("bench", "bench", [("", {"input": text}) for text in texts]).samples)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
        settings = load_settings(home=Path(home))
        upgrade(settings)
        database = open_database(settings)

        async def run() -> float:
            completer = GatewayCompleter(engine, model, retries=0, many=True)
            try:
                found = await ask_all(database, lambda _: completer, Batch([model], asked, options, concurrency))
            finally:
                await completer.close()
            answers = [outcome.answer for outcome in found.outcomes[model]]
            return sum(answer.completion_tokens or 0 for answer in answers if answer) / found.seconds

        try:
            return asyncio.run(run())
        finally:
            database.dispose()


async def _bare(engine: str, model: str, texts: list[str], options: dict[str, Any], concurrency: int) -> int:
    """Completion tokens of all questions, asked over `concurrency` connections that stay open."""
    place = urlsplit(engine)
    waiting = iter(texts)
    tokens = 0

    async def work() -> None:
        nonlocal tokens
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        for text in waiting:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **options}).encode()
            head = f"POST {place.path}/chat/completions HTTP/1.1\r\nhost: {place.netloc}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            headers = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(headers.partition("content-length:")[2].partition("\r\n")[0])
            tokens += json.loads(await reader.readexactly(length))["usage"]["completion_tokens"]
        writer.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return tokens


@contextmanager
def upstream(latency_s: float) -> Iterator[str]:
    """The fixed-latency server in a process of its own; its address as an SDK's base_url."""
    command = [sys.executable, "-m", "tests.evals.upstream", "--latency-s", str(latency_s)]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def main(arguments: list[str] | None = None) -> int:
    """Runs the rounds and prints them."""
    parser = argparse.ArgumentParser(prog="python -m bench.runner", description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=640)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency-s", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--engine", help="a served address, as an SDK's base_url, to measure tokens a second at")
    parser.add_argument("--model", help="the served model's name")
    options = parser.parse_args(arguments)
    if min(options.samples, options.concurrency, options.rounds) < 1 or options.latency_s <= 0:
        parser.error("samples, concurrency and rounds are 1 or more, the latency is above 0")
    load = os.getloadavg()[0]
    if options.engine:
        turns = [
            throughput(options.engine, options.model, options.samples, options.concurrency, i)
            for i in range(options.rounds)
        ]
        for turn in turns:
            print(f"bare {turn.bare:.0f} tokens/s, runner {turn.runner:.0f} tokens/s, ratio {turn.ratio:.3f}")
        if options.json:
            ratio = statistics.median(turn.ratio for turn in turns)
            print(json.dumps({"ratio": ratio, "load": load, "turns": [asdict(turn) for turn in turns]}))
        return 0
    rounds = [measure(options.samples, options.concurrency, options.latency_s) for _ in range(options.rounds)]
    print(f"{options.samples} samples, {options.concurrency} at once, {options.latency_s} s each; load {load:.1f}")
    print(f"{'whole s':>8} {'of ideal':>8} {'sequential s each':>17} {'times faster / c':>16}")
    for found in rounds:
        print(
            f"{found.whole:>8.2f} {found.over_ideal:>8.3f} {found.sequential_each:>17.4f} "
            f"{found.times_faster_share:>16.3f}"
        )
    result = {
        "samples": options.samples,
        "concurrency": options.concurrency,
        "latency_s": options.latency_s,
        "over_ideal": statistics.median(found.over_ideal for found in rounds),
        "times_faster_share": statistics.median(found.times_faster_share for found in rounds),
        "load": load,
        "rounds": [asdict(found) for found in rounds],
    }
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
