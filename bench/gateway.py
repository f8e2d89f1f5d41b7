"""What the gateway costs: direct against through the gateway, on one paced mock upstream, in one run.

    python -m bench.gateway [--rounds 3] [--json]

It measures, in rounds that alternate the two arms, so that a busy machine disturbs both alike:

- CPU per request and per streamed chunk: the gateway process's own CPU time over a known number of each;
- added latency of one request alone, median and 99th percentile of the difference to direct;
- paced streams: how long 128 streams of 64 chunks, 10 ms apart, take direct and through the gateway.

Upstream, gateway and client are processes of their own, each on cores of its own where there are enough. The gateway
runs as users run it: `parley gateway`, with a key, figures and usage counting on. Peers and a real engine are not here
yet. The last line is one JSON object.
"""

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

CHUNKS, PACE_S = 64, 0.010
FRAME = (
    'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock",'
    '"choices":[{"index":0,"delta":{"content":" word%02d"},"logprobs":null,"finish_reason":null}]}\n\n'
)
FRAMES = [(FRAME % number).encode() for number in range(CHUNKS)]
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":64,"total_tokens":73}}\n\n'
)
WHOLE = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 64}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 64, "total_tokens": 73},
    }
).encode()  # fmt: skip
DONE = b"data: [DONE]\n\n"
BODY: dict[str, Any] = {"model": "mock", "messages": [{"role": "user", "content": "Where is my order? " * 10}]}


@dataclass(frozen=True)
class Figures:
    """The figures; times in the unit that their name ends in. Ratios are medians over the rounds."""

    cpu_us_per_request: float
    cpu_us_per_chunk: float
    requests_per_s: float
    direct_requests_per_s: float
    added_p50_ms: float
    added_p99_ms: float
    paced_ratio_128: float
    streams_equal: bool
    rounds: int
    cores: int


@dataclass(frozen=True)
class Target:
    """Where an arm sends its requests."""

    url: str
    headers: dict[str, str]


async def upstream(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[..., Any]) -> None:
    """The mock, as an ASGI application: a whole answer at once, or a paced stream."""
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if b'"stream":true' not in body.replace(b" ", b""):
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(WHOLE))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": WHOLE})
        return
    paced = b'"paced"' in body
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    began = time.perf_counter()
    for number, frame in enumerate(FRAMES):
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        wait = began + (number + 1) * PACE_S - time.perf_counter() if paced else 0
        await asyncio.sleep(max(wait, 0))
    if b'"include_usage":true' in body.replace(b" ", b""):
        await send({"type": "http.response.body", "body": USAGE, "more_body": True})
    await send({"type": "http.response.body", "body": DONE})


def main() -> None:
    """Runs the bench, or with --upstream PORT the mock alone."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        import uvicorn

        uvicorn.run(upstream, port=options.upstream, log_level="error", access_log=False, lifespan="off", loop="uvloop")
        return
    figures = run(options.rounds)
    if not options.json:
        print(table(figures))
    print(json.dumps(asdict(figures)))


def run(rounds: int) -> Figures:
    """Starts mock and gateway in a temporary home, measures, and stops them."""
    cores = sorted(os.sched_getaffinity(0))
    pins = cores[:3] if len(cores) > 3 else [cores[0], cores[-1], cores[-1]]
    with tempfile.TemporaryDirectory() as folder:
        mock_port, port = _free_port(), _free_port()
        environment, key = _prepare(Path(folder), mock_port, port)
        mock = subprocess.Popen([sys.executable, "-m", "bench.gateway", "--upstream", str(mock_port)])
        gateway = subprocess.Popen([sys.executable, "-m", "parley", "gateway"], env=environment)
        try:
            os.sched_setaffinity(mock.pid, {pins[0]})
            os.sched_setaffinity(gateway.pid, {pins[1]})
            os.sched_setaffinity(0, set(cores[2:]) or {pins[2]})
            direct = Target(f"http://127.0.0.1:{mock_port}/v1/chat/completions", {})
            through = Target(f"http://127.0.0.1:{port}/v1/chat/completions", {"authorization": f"Bearer {key}"})
            return asyncio.run(_measure(direct, through, psutil.Process(gateway.pid), rounds, len(cores)))
        finally:
            for process in (gateway, mock):
                process.terminate()
                process.wait()
            os.sched_setaffinity(0, set(cores))


async def _measure(direct: Target, through: Target, gateway: psutil.Process, rounds: int, cores: int) -> Figures:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for target in (direct, through):
            await _until_up(session, target)
            await _many(session, target, 300, 16)
        request_us, chunk_us, rates, direct_rates, added, ratios, hashes = [], [], [], [], [], [], set()
        for _ in range(rounds):
            direct_rates.append(3000 / await _many(session, direct, 3000, 32))
            before = _cpu(gateway)
            rates.append(3000 / await _many(session, through, 3000, 32))
            request_us.append((_cpu(gateway) - before) / 3000 * 1e6)

            alone = [[await _one(session, target) for target in (direct, through)] for _ in range(400)]
            added += [(late - early) * 1e3 for early, late in alone]

            took_direct, found = await _streams(session, direct, 128)
            hashes |= found
            before = _cpu(gateway)
            took, found = await _streams(session, through, 128)
            hashes |= found
            # What a request costs anyway is not the chunks'.
            spent = (_cpu(gateway) - before) * 1e6 - 128 * request_us[-1]
            chunk_us.append(spent / (128 * CHUNKS))
            ratios.append(took_direct / took)
    added.sort()
    return Figures(
        cpu_us_per_request=round(statistics.median(request_us), 1),
        cpu_us_per_chunk=round(statistics.median(chunk_us), 1),
        requests_per_s=round(statistics.median(rates)),
        direct_requests_per_s=round(statistics.median(direct_rates)),
        added_p50_ms=round(statistics.median(added), 3),
        added_p99_ms=round(added[int(len(added) * 0.99)], 3),
        paced_ratio_128=round(statistics.median(ratios), 3),
        streams_equal=len(hashes) == 1,
        rounds=rounds,
        cores=cores,
    )


async def _one(session: aiohttp.ClientSession, target: Target) -> float:
    began = time.perf_counter()
    async with session.post(target.url, json=BODY, headers=target.headers) as answer:
        await answer.read()
        answer.raise_for_status()
    return time.perf_counter() - began


async def _many(session: aiohttp.ClientSession, target: Target, count: int, at_once: int) -> float:
    async def work() -> None:
        for _ in range(count // at_once):
            await _one(session, target)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    return time.perf_counter() - began


async def _streams(session: aiohttp.ClientSession, target: Target, count: int) -> tuple[float, set[str]]:
    body = BODY | {"stream": True, "user": "paced"}

    async def one() -> str:
        async with session.post(target.url, json=body, headers=target.headers) as answer:
            return hashlib.sha256(await answer.read()).hexdigest()

    began = time.perf_counter()
    hashes = set(await asyncio.gather(*(one() for _ in range(count))))
    return time.perf_counter() - began, hashes


async def _until_up(session: aiohttp.ClientSession, target: Target) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            await _one(session, target)
            return
        except aiohttp.ClientError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


def _prepare(home: Path, mock_port: int, port: int) -> tuple[dict[str, str], str]:
    """A home with one model, whose engine is said to be the mock, and a key."""
    from models.database import open_database, upgrade
    from models.keys import create_key
    from models.registry import Registry
    from models.settings import child_environment, load_settings
    from models.spec import ModelSpec
    from serve.states import Served, publish

    settings = load_settings(home=home, port=port, log_level="warning")
    upgrade(settings)
    database = open_database(settings)
    (home / "weights").mkdir()
    (home / "weights" / "model.safetensors").touch()
    Registry(database).register(ModelSpec(id="mock", kind="base", path=str(home / "weights")))
    publish(database, [Served("mock", "ready", f"http://127.0.0.1:{mock_port}")])
    key = create_key(database, name="bench", role="client")
    database.dispose()
    return child_environment(settings), key


def table(figures: Figures) -> str:
    """The figures as people read them."""
    return "\n".join(f"{name:26} {value}" for name, value in asdict(figures).items())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _free_port() -> int:
    from serve.engines import free_port

    return free_port()


if __name__ == "__main__":
    main()
