"""The engine part of `bench.gateway`: tokens per second with 64 concurrent requests, relative to direct.

`parley up` starts the engine, with the demo's base. Every answer is forced to its full length, and no prompt repeats,
because an engine caches prefixes.
"""

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import uvloop

from bench.gateway import targets
from bench.gateway.client import Response, send_all
from bench.gateway.home import Home, create_home
from bench.gateway.targets import Cores, Target, Upstream
from bench.progress import print_progress
from models.database import open_database
from models.demo import BASE, catalogue
from models.errors import Unavailable
from models.registry.registry import Registry
from models.spec import ModelSpec
from serve.fleet import engine_states
from serve.launcher.up_process import Running, start

AT_ONCE = 64
_TOKENS = 64
_START_S = 180.0
_COUNT = re.compile(rb'"completion_tokens": ?(\d+)')


def engine_ratios(cores: Cores, peers: Sequence[str], rounds: int, *, quick: bool) -> dict[str, float]:
    """Target → median ratio of its tokens per second to direct's in the same round; `tokens_per_s`: direct's median.

    Raises:
        Unavailable: the engine does not start, or a target does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        home = create_home(Path(folder) / "home")
        database = open_database(home.settings)
        base = next(model for model in catalogue() if model.id == BASE)
        Registry(database).register(ModelSpec(id=BASE, kind="base", path=str(base.weights), toy=True))
        database.dispose()
        with ExitStack() as stack:
            up, upstream = _start_parley(stack, home, cores)
            return uvloop.run(_measure_all(home, up, upstream, cores, peers, rounds, 1 if quick else 3))


async def _measure_all(
    home: Home, up: Running, upstream: Upstream, cores: Cores, peers: Sequence[str], rounds: int, each: int
) -> dict[str, float]:
    with ExitStack() as stack:
        chosen = [
            targets.direct_target(stack, upstream),
            targets.running_parley_target(stack, home.settings, home.key, up.pid, cores),
        ]
        await targets.wait_ready(chosen, _body("Are you there?"))
        others = [targets.peer_target(stack, name, upstream, home.settings.logs_dir, cores) for name in peers]
        chosen += await targets.ready_targets(others, _body("Are you there?"))
        return await _measure(chosen, rounds, each)


def _start_parley(stack: ExitStack, home: Home, cores: Cores) -> tuple[Running, Upstream]:
    """Starts `parley up` with its engine on the upstream's cores; returns when the engine is ready."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores.upstream)  # inherited by the engine
    try:
        up = stack.enter_context(start(home.settings, page=False, worker=False))
    finally:
        os.sched_setaffinity(0, mine)
    up.wait_ready(_START_S)
    database = open_database(home.settings)
    try:
        address = engine_states.read_statuses(database)[BASE].address
    finally:
        database.dispose()
    if address is None:
        raise Unavailable(f"The engine does not run: see {up.log}.")
    return up, Upstream(address, engine_states.engine_key(engine_states.read_key(home.settings.home), BASE), BASE)


async def _measure(chosen: Sequence[Target], rounds: int, each: int) -> dict[str, float]:
    texts = _texts()
    rates: dict[str, list[float]] = {target.name: [] for target in chosen}
    for target in chosen:
        await _turn(target, 1, texts)
    for number in range(rounds):
        print_progress(f"engine, round {number + 1} of {rounds}")
        turn = number % len(chosen)
        for target in (*chosen[turn:], *chosen[:turn]):
            rates[target.name].append(await _turn(target, each, texts))
            await target.settle()
    direct = rates[targets.DIRECT]
    ratios = {
        name: round(median(mine / theirs for mine, theirs in zip(measured, direct, strict=True)), 3)
        for name, measured in rates.items()
        if name != targets.DIRECT
    }
    return {**ratios, "tokens_per_s": round(median(direct))}


async def _turn(target: Target, each: int, texts: Iterator[str]) -> float:
    """One turn's tokens per second."""
    requests = [target.client.encode_request(_body(next(texts))) for _ in range(AT_ONCE * each)]
    began = time.perf_counter()
    responses = await send_all(target.client, requests, AT_ONCE)
    return sum(map(_tokens, responses)) / (time.perf_counter() - began)


def _tokens(response: Response) -> int:
    counts = _COUNT.findall(response.body)
    if response.status != 200 or not counts:
        raise ConnectionError(f"status {response.status}: {response.body[-200:].decode(errors='replace')}")
    return int(counts[-1])


def _texts() -> Iterator[str]:
    number = 100_000
    while True:
        number += 1
        yield f"{number}: where is this order, and when will it be here?"


def _body(text: str) -> bytes:
    content = {
        "model": BASE,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": _TOKENS,
        "ignore_eos": True,
    }
    return json.dumps(content).encode()
