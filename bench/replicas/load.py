"""Clients that request one stream after another, and the result of each."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import aiohttp

from bench.replicas.deployment import MODEL

TOKENS = 20


@dataclass(frozen=True)
class Stream:
    """One request: when it ended, its tokens, whether it was complete, and the pid of the engine that began it."""

    ended: float
    tokens: int
    complete: bool
    engine: int | None


@dataclass
class Load:
    """The results so far."""

    streams: list[Stream] = field(default_factory=list)

    def tokens_per_s(self, since: float) -> float:
        """Tokens of the streams that ended after `since`, per second since then."""
        return sum(stream.tokens for stream in self.streams if stream.ended > since) / (time.monotonic() - since)

    def lost(self) -> list[Stream]:
        """The streams that were not completed."""
        return [stream for stream in self.streams if not stream.complete]


@asynccontextmanager
async def load(base_url: str, clients: int, *, model: str = MODEL) -> AsyncIterator[Load]:
    """Runs clients with one stream at a time each until the end of the block; streams that run then are completed."""
    results, stopping = Load(), asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        streams = partial(_request_stream, session, base_url, model)
        workers = [asyncio.create_task(_request_streams(streams, results, stopping)) for _ in range(clients)]
        try:
            yield results
        finally:
            stopping.set()
            await asyncio.gather(*workers)


async def _request_streams(
    request_stream: Callable[[], Awaitable[Stream]], results: Load, stopping: asyncio.Event
) -> None:
    while not stopping.is_set():
        results.streams.append(await request_stream())


async def _request_stream(session: aiohttp.ClientSession, base_url: str, model: str) -> Stream:
    body = {"model": model, "messages": [{"role": "user", "content": "count"}], "max_tokens": TOKENS, "stream": True}
    tokens, engine, complete = 0, None, False
    try:
        async with session.post(f"{base_url}/chat/completions", json=body) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        break
                    tokens += 1
                    engine = int(chunk["id"].partition("-")[2])
                complete = complete or line.startswith(b"data: [DONE]")
    except (aiohttp.ClientError, OSError):
        complete = False
    if not complete:
        await asyncio.sleep(0.05)
    return Stream(time.monotonic(), tokens, complete, engine)


async def latencies_ms(addresses: dict[str, tuple[str, str]], count: int) -> dict[str, list[float]]:
    """Name → milliseconds of whole answers, one request at a time, to each address in turn.

    Args:
        addresses: name → (base URL, key).
    """
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    latencies: dict[str, list[float]] = {name: [] for name in addresses}
    async with aiohttp.ClientSession() as session:
        for _ in range(count):
            for name, (base_url, key) in addresses.items():
                began = time.perf_counter()
                headers = {"authorization": f"Bearer {key}"}
                async with session.post(f"{base_url}/chat/completions", json=body, headers=headers) as response:
                    await response.read()
                latencies[name].append((time.perf_counter() - began) * 1000)
    return latencies
