"""What the gateway costs, held against nothing at all and against its peers, in one run.

    python -m bench.gateway [--rounds 4] [--json] [--quick] [--without-peers] [--without-engine]

On one mock upstream that streams 64 chunks, 10 ms apart, and on a real vLLM engine with the demo's model, it measures
in turns direct, Parley, vllm-router and LiteLLM's proxy (`make bench-peers` installs the two):

- CPU for each request and for each streamed chunk, of the gateway's whole process tree;
- what is added to one request alone (median and 99th percentile), and to one with a prompt of 400 KB;
- streams paced by the mock: chunks a second against direct, at 128 at once and at the most of 256 and 512 at which
  direct itself keeps its pace; frames that are missing, and whether the streams are direct's to the byte;
- the engine's tokens a second at 64 at once against direct;
- streams that come ten times as fast as Parley may pass them on: how soon the excess gets its 429, and what that does
  to its memory.

Ratios and differences are medians over the rounds. Mock or engine, gateway and client have cores of their own, the
same in every arm. Parley runs as its users run it: keys, limits, figures, usage and access log on. The last line is
one JSON object; it has the machine's load in it, since on a busy one the figures are worse than the gateway.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import uvloop

from bench import gateway_arms as arms_of
from bench.asking import say
from bench.gateway_arms import Cores
from bench.gateway_engine import engine_ratios
from bench.gateway_home import home_over
from bench.gateway_overload import overload
from bench.gateway_rounds import BODY, QUICK, Amounts, Rounds, rounds_of
from models.errors import ParleyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything runs")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--without-engine", action="store_true")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is 1 or more")
    rounds = 1 if options.quick else options.rounds
    # So that a bench that is told to end still stops what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peers = [] if options.without_peers else arms_of.installed_peers()
    if not peers and not options.without_peers:
        say("The peers are not installed: `make bench-peers`. Going on without them.")
    cores = arms_of.share_cores()
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores.client)
        found = run(cores, peers, rounds, QUICK if options.quick else Amounts(), engine=not options.without_engine)
    except (ParleyError, OSError) as error:
        print(f"bench.gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        os.sched_setaffinity(0, mine)
    if not options.json:
        print(table(found))
    print(json.dumps(found))
    for line in found["not_measured"]:
        say(f"not measured: {line}")
    return int(bool(found["not_measured"]))


def run(cores: Cores, peers: Sequence[str], rounds: int, amounts: Amounts, *, engine: bool) -> dict[str, Any]:
    """All that is measured, as the JSON object that is printed."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        found = uvloop.run(_on_the_mock(Path(folder) / "mock", peers, rounds, amounts, cores))
        # What is measured is measured: a later part that fails takes none of it along.
        missing: list[str] = []
        over: dict[str, Any] = {}
        try:
            over = uvloop.run(_overload(Path(folder) / "overload", amounts, cores))
        except (ParleyError, OSError) as error:
            missing.append(f"overload: {error}")
    ratios: dict[str, float] = {}
    if engine:
        say("the engine")
        try:
            ratios = engine_ratios(cores, peers, rounds, quick=amounts is QUICK)
        except (ParleyError, OSError) as error:
            missing.append(f"engine: {error}")
    figures = {name: kept.figures() for name, kept in found.kept.items()}
    exact = found.kept[arms_of.DIRECT].hashes
    peers = [name for name in peers if name in figures]
    for name in (arms_of.PARLEY, *peers):
        figures[name]["streams_equal"] = len(exact) == 1 and found.kept[name].hashes == exact
        figures[name]["engine_ratio_64"] = ratios.get(name)
    return {
        **figures[arms_of.PARLEY],
        "paced_most": found.most,
        **over,
        "direct_requests_per_s": figures[arms_of.DIRECT]["requests_per_s"],
        "engine_tokens_per_s": ratios.get("tokens_per_s"),
        "peers": {name: figures[name] | {"version": arms_of.peer_version(name)} for name in peers},
        "rounds": rounds,
        "cores": {"upstream": cores.upstream, "gateway": cores.gateway, "client": cores.client},
        "load": round(load, 2),
        "not_measured": missing,
    }


async def _on_the_mock(folder: Path, peers: Sequence[str], rounds: int, amounts: Amounts, cores: Cores) -> Rounds:
    with ExitStack() as stack:
        mock = arms_of.start_mock(stack, folder, cores)
        home = home_over(folder / "home", mock)
        arms = [
            arms_of.direct(stack, mock),
            arms_of.parley(stack, home.settings, home.environment, home.key, cores),
        ]
        body = json.dumps(BODY).encode()
        await arms_of.until_ready(arms, body)
        arms += await arms_of.those_ready([arms_of.peer(stack, name, mock, folder, cores) for name in peers], body)
        return await rounds_of(arms, rounds, amounts)


async def _overload(folder: Path, amounts: Amounts, cores: Cores) -> dict[str, Any]:
    room, waves, wave_s = (10, 2, 0.5) if amounts is QUICK else (100, 5, 2.0)
    with ExitStack() as stack:
        mock = arms_of.start_mock(stack, folder, cores)
        home = home_over(folder / "home", mock, running_per_model=room, queue_size=room)
        arm = arms_of.parley(stack, home.settings, home.environment, home.key, cores)
        await arms_of.until_ready([arm], json.dumps(BODY).encode())
        return await overload(arm, room, waves, wave_s)


def table(found: dict[str, Any]) -> str:
    """The figures as people read them: Parley's, and each peer's beside them."""
    peers: dict[str, dict[str, Any]] = found["peers"]
    lines = [f"{'':28}{'parley':>12}" + "".join(f"{name:>14}" for name in peers)]
    for name, value in found.items():
        if name != "peers":
            beside = "".join(f"{one[name]!s:>14}" if name in one else "" for one in peers.values())
            lines.append(f"{name:28}{value!s:>12}{beside}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
