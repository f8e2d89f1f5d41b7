"""The runner of `parley eval` against an upstream with a fixed latency: how busy it stays, and what it adds.

    python -m bench.runner [--samples 640] [--concurrency 32] [--latency-s 1] [--rounds 2] [--json]

The upstream is a process of its own on a real socket and computes nothing, so all time above ceil(N/c) times the
latency is spent by the runner, the SDK and the machine. A sequential loop asks a few of the same questions through the
same SDK and is extrapolated. Each round has a fresh database. With `--json` the last line is one JSON object; it
includes the machine's load, because a busy machine makes the figures worse.

    python -m bench.runner --engine http://127.0.0.1:8000/v1 --model NAME [--json]

compares the runner's tokens per second at a served model with a bare load generator's (asyncio sockets, no SDK,
nothing stored), in turns, with answers forced to full length.
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
from models.chat.completer import GatewayCompleter
from models.database import open_database, upgrade
from models.errors import Invalid
from models.settings.settings import load_settings

_MODEL = "fixed"
_PARAMETERS = {"temperature": 0.0, "max_tokens": 64}
_SEQUENTIAL = 10  # questions of the sequential loop


@dataclass(frozen=True)
class Round:
    """One round. Seconds: `asking` until the last answer, `whole` until the last answer is stored."""

    asking: float
    whole: float
    sequential_each: float
    over_ideal: float
    times_faster_share: float


def measure(samples: int, concurrency: int, latency_s: float) -> Round:
    """Measures one round with a fresh upstream and database.

    `over_ideal` is the whole time divided by ceil(N/c) × latency; `times_faster_share` the speed-up over the sequential
    loop divided by c.
    """
    questions = tuple(make_task("bench", "bench", [("", {"input": f"Question {i}?"}) for i in range(samples)]).samples)
    with upstream(latency_s) as address, tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
        settings = load_settings(home=Path(home))
        upgrade(settings)
        database = open_database(settings)

        async def run() -> tuple[float, float, float]:
            completer = GatewayCompleter(address, _MODEL, retries=0, many=True)
            try:
                each = await _sequential(completer, questions[:_SEQUENTIAL])
                began = time.perf_counter()
                batch = await ask_all(
                    database, lambda model: completer, Batch([_MODEL], questions, _PARAMETERS, concurrency)
                )
                whole = time.perf_counter() - began
            finally:
                await completer.close()
            if any(outcome.answer is None for outcome in batch.outcomes[_MODEL]):
                raise Invalid("The upstream failed, so the figures are meaningless.")
            return batch.seconds, whole, each

        asking, whole, each = asyncio.run(run())
        database.dispose()
    ideal = ceil(samples / concurrency) * latency_s
    return Round(asking, whole, each, whole / ideal, samples * each / whole / concurrency)


async def _sequential(completer: GatewayCompleter, samples: tuple[TaskSample, ...]) -> float:
    """Seconds per question in a sequential loop."""
    await completer(samples[0].messages, **_PARAMETERS)  # warm-up: the SDK's imports and the first connection
    began = time.perf_counter()
    for sample in samples:
        await completer(sample.messages, **_PARAMETERS)
    return (time.perf_counter() - began) / len(samples)


@dataclass(frozen=True)
class Throughput:
    """Completion tokens per second of one pair of turns, and their ratio."""

    bare: float
    runner: float
    ratio: float


def throughput(engine: str, model: str, samples: int, concurrency: int, turn: int) -> Throughput:
    """Runs one turn of the bare load generator and one of the runner; which one starts alternates.

    Each has different questions of the same length, because an engine caches prefixes.
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
    """The runner's completion tokens per second, with a fresh database."""
    questions = tuple(make_task("bench", "bench", [("", {"input": text}) for text in texts]).samples)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as home:
        settings = load_settings(home=Path(home))
        upgrade(settings)
        database = open_database(settings)

        async def run() -> float:
            completer = GatewayCompleter(engine, model, retries=0, many=True)
            try:
                batch = await ask_all(database, lambda _: completer, Batch([model], questions, options, concurrency))
            finally:
                await completer.close()
            answers = [outcome.answer for outcome in batch.outcomes[model]]
            return sum(answer.completion_tokens or 0 for answer in answers if answer) / batch.seconds

        try:
            return asyncio.run(run())
        finally:
            database.dispose()


async def _bare(engine: str, model: str, texts: list[str], options: dict[str, Any], concurrency: int) -> int:
    """Completion tokens of all questions, sent over `concurrency` keep-alive connections."""
    address = urlsplit(engine)
    remaining = iter(texts)
    tokens = 0

    async def work() -> None:
        nonlocal tokens
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for text in remaining:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}], **options}).encode()
            head = f"POST {address.path}/chat/completions HTTP/1.1\r\nhost: {address.netloc}\r\n"
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
    """Runs the fixed-latency server in a process of its own; yields its base_url."""
    command = [sys.executable, "-m", "tests.evals.upstream", "--latency-s", str(latency_s)]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def main(arguments: list[str] | None = None) -> int:
    """Runs the rounds and prints the results; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.runner", description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=640)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--latency-s", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--engine", help="a base_url at which to measure tokens per second")
    parser.add_argument("--model", help="the served model's name")
    options = parser.parse_args(arguments)
    if min(options.samples, options.concurrency, options.rounds) < 1 or options.latency_s <= 0:
        parser.error("samples, concurrency and rounds must be at least 1, the latency above 0")
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
    for row in rounds:
        print(f"{row.whole:>8.2f} {row.over_ideal:>8.3f} {row.sequential_each:>17.4f} {row.times_faster_share:>16.3f}")
    result = {
        "samples": options.samples,
        "concurrency": options.concurrency,
        "latency_s": options.latency_s,
        "over_ideal": statistics.median(row.over_ideal for row in rounds),
        "times_faster_share": statistics.median(row.times_faster_share for row in rounds),
        "load": load,
        "rounds": [asdict(row) for row in rounds],
    }
    if options.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
