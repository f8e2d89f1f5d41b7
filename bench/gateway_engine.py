"""The real engine's part of `bench.gateway`: tokens a second at 64 at once, through each arm against direct.

The engine is the one that `parley up` starts, with the demo's base model; every answer is forced to its full length,
and no two turns ask the same, since an engine keeps what it has read.
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

from bench import gateway_arms as arms_of
from bench.asking import say
from bench.gateway_arms import Arm, Cores, Upstream
from bench.gateway_client import Reply, answers
from bench.gateway_home import Home, new_home
from models.database import open_database
from models.demo import BASE, catalogue
from models.errors import Unavailable
from models.registry import Registry
from models.spec import ModelSpec
from serve.fleet import engine_states, vllm_command
from serve.launcher.up_process import Running, start

AT_ONCE = 64
_TOKENS = 64
_START_S = 180.0
_COUNT = re.compile(rb'"completion_tokens": ?(\d+)')


def engine_ratios(cores: Cores, peers: Sequence[str], rounds: int, *, quick: bool) -> dict[str, float]:
    """Arm → median of its tokens a second over direct's in the same round; `tokens_per_s` is direct's own median.

    Raises:
        Unavailable: the engine does not start, or an arm does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        home = new_home(Path(folder) / "home")
        database = open_database(home.settings)
        base = next(model for model in catalogue() if model.id == BASE)
        Registry(database).register(ModelSpec(id=BASE, kind="base", path=str(base.weights), toy=True))
        database.dispose()
        with ExitStack() as stack:
            up, upstream = _started(stack, home, cores)
            return uvloop.run(_through_all(home, up, upstream, cores, peers, rounds, 1 if quick else 3))


async def _through_all(
    home: Home, up: Running, upstream: Upstream, cores: Cores, peers: Sequence[str], rounds: int, each: int
) -> dict[str, float]:
    with ExitStack() as stack:
        arms = [arms_of.direct(stack, upstream), arms_of.running_parley(stack, home.settings, home.key, up.pid, cores)]
        await arms_of.until_ready(arms, _body("Are you there?"))
        beside = [arms_of.peer(stack, name, upstream, home.settings.logs_dir, cores) for name in peers]
        arms += await arms_of.those_ready(beside, _body("Are you there?"))
        return await _measure(arms, rounds, each)


def _started(stack: ExitStack, home: Home, cores: Cores) -> tuple[Running, Upstream]:
    """`parley up` with its engine on the upstream's cores, once the engine is ready."""
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores.upstream)  # what it starts shares out the cores that it finds
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
    return up, Upstream(address, vllm_command.read_key(home.settings.home), BASE)


async def _measure(arms: Sequence[Arm], rounds: int, each: int) -> dict[str, float]:
    texts = _texts()
    rates: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for arm in arms:
        await _turn(arm, 1, texts)
    for number in range(rounds):
        say(f"engine, round {number + 1} of {rounds}")
        turn = number % len(arms)
        for arm in (*arms[turn:], *arms[:turn]):
            rates[arm.name].append(await _turn(arm, each, texts))
            await arm.settle()
    direct = rates[arms_of.DIRECT]
    ratios = {
        name: round(median(mine / theirs for mine, theirs in zip(found, direct, strict=True)), 3)
        for name, found in rates.items()
        if name != arms_of.DIRECT
    }
    return {**ratios, "tokens_per_s": round(median(direct))}


async def _turn(arm: Arm, each: int, texts: Iterator[str]) -> float:
    """Tokens a second."""
    requests = [arm.client.written(_body(next(texts))) for _ in range(AT_ONCE * each)]
    began = time.perf_counter()
    replies = await answers(arm.client, requests, AT_ONCE)
    return sum(map(_tokens, replies)) / (time.perf_counter() - began)


def _tokens(reply: Reply) -> int:
    counts = _COUNT.findall(reply.body)
    if reply.status != 200 or not counts:
        raise ConnectionError(f"status {reply.status}: {reply.body[-200:].decode(errors='replace')}")
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
