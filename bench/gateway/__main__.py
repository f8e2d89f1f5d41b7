"""What the gateway costs, compared with a direct connection and with other gateways, in one run.

    python -m bench.gateway [--rounds 4] [--json] [--quick] [--without-peers] [--without-engine]

It measures in turns a direct connection, Parley, vllm-router and LiteLLM's proxy (`make bench-peers` installs these
two), with a mock upstream that streams 64 chunks, 10 ms apart, and with a vLLM engine of the demo's base:

- CPU time per request and per streamed chunk, of the gateway's whole process tree;
- the latency added to a single request (median and 99th percentile), and to one with a prompt of 400 KB;
- streams paced by the mock: chunks per second relative to direct, with 128 concurrent streams, and with 256 or 512,
  whichever direct still sustains; missing frames, and whether the streams equal direct's byte for byte;
- the engine's tokens per second with 64 concurrent requests, relative to direct;
- ten times as many streams as Parley may forward: how fast the excess gets its 429, and how memory grows.

Ratios and differences are medians over the rounds. Upstream, gateway and client each have their own cores, the same
for every target. Parley runs with keys, limits, metrics, usage and access log on. The last line is one JSON object; it
includes the machine's load, because a busy machine makes the figures worse.
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

from bench.gateway import targets
from bench.gateway.engine_throughput import engine_ratios
from bench.gateway.home import create_home_with_engine
from bench.gateway.measurements import BODY, QUICK, Measurements, Workload, measure_overload, measure_targets
from bench.gateway.targets import Cores
from bench.progress import print_progress
from models.errors import ParleyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--quick", action="store_true", help="one short round, to check that everything runs")
    parser.add_argument("--without-peers", action="store_true")
    parser.add_argument("--without-engine", action="store_true")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds is 1 or more")
    rounds = 1 if options.quick else options.rounds
    # On SIGTERM the bench still stops the processes it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    peers = [] if options.without_peers else targets.installed_peers()
    if not peers and not options.without_peers:
        print_progress("The other gateways are not installed: run `make bench-peers`. Continuing without them.")
    cores = targets.share_cores()
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores.client)
        result = run(cores, peers, rounds, QUICK if options.quick else Workload(), engine=not options.without_engine)
    except (ParleyError, OSError) as error:
        print(f"bench.gateway: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        os.sched_setaffinity(0, mine)
    if not options.json:
        print(table(result))
    print(json.dumps(result))
    for line in result["not_measured"]:
        print_progress(f"not measured: {line}")
    return int(bool(result["not_measured"]))


def run(cores: Cores, peers: Sequence[str], rounds: int, workload: Workload, *, engine: bool) -> dict[str, Any]:
    """Measures everything; returns the JSON object."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
        measurements = uvloop.run(_measure_mock(Path(folder) / "mock", peers, rounds, workload, cores))
        # A later part that fails does not discard what is already measured.
        missing: list[str] = []
        over: dict[str, Any] = {}
        try:
            over = uvloop.run(_measure_overload(Path(folder) / "overload", workload, cores))
        except (ParleyError, OSError) as error:
            missing.append(f"overload: {error}")
    ratios: dict[str, float] = {}
    if engine:
        print_progress("the engine")
        try:
            ratios = engine_ratios(cores, peers, rounds, quick=workload is QUICK)
        except (ParleyError, OSError) as error:
            missing.append(f"engine: {error}")
    figures = {name: samples.figures() for name, samples in measurements.samples.items()}
    exact = measurements.samples[targets.DIRECT].hashes
    peers = [name for name in peers if name in figures]
    for name in (targets.PARLEY, *peers):
        figures[name]["streams_equal"] = len(exact) == 1 and measurements.samples[name].hashes == exact
        figures[name]["engine_ratio_64"] = ratios.get(name)
    return {
        **figures[targets.PARLEY],
        "paced_most": measurements.most,
        **over,
        "direct_requests_per_s": figures[targets.DIRECT]["requests_per_s"],
        "engine_tokens_per_s": ratios.get("tokens_per_s"),
        "peers": {name: figures[name] | {"version": targets.peer_version(name)} for name in peers},
        "rounds": rounds,
        "cores": {"upstream": cores.upstream, "gateway": cores.gateway, "client": cores.client},
        "load": round(load, 2),
        "not_measured": missing,
    }


async def _measure_mock(
    folder: Path, peers: Sequence[str], rounds: int, workload: Workload, cores: Cores
) -> Measurements:
    with ExitStack() as stack:
        mock = targets.start_mock(stack, folder, cores)
        home = create_home_with_engine(folder / "home", mock)
        chosen = [
            targets.direct_target(stack, mock),
            targets.parley_target(stack, home.settings, home.environment, home.key, cores),
        ]
        body = json.dumps(BODY).encode()
        await targets.wait_ready(chosen, body)
        chosen += await targets.ready_targets(
            [targets.peer_target(stack, name, mock, folder, cores) for name in peers], body
        )
        return await measure_targets(chosen, rounds, workload)


async def _measure_overload(folder: Path, workload: Workload, cores: Cores) -> dict[str, Any]:
    capacity, waves, wave_s = (10, 2, 0.5) if workload is QUICK else (100, 5, 2.0)
    with ExitStack() as stack:
        mock = targets.start_mock(stack, folder, cores)
        home = create_home_with_engine(folder / "home", mock, running_per_model=capacity, queue_size=capacity)
        target = targets.parley_target(stack, home.settings, home.environment, home.key, cores)
        await targets.wait_ready([target], json.dumps(BODY).encode())
        return await measure_overload(target, capacity, waves, wave_s)


def table(result: dict[str, Any]) -> str:
    """The figures as a table: one column for Parley and one per other gateway."""
    peers: dict[str, dict[str, Any]] = result["peers"]
    lines = [f"{'':28}{'parley':>12}" + "".join(f"{name:>14}" for name in peers)]
    for name, value in result.items():
        if name != "peers":
            beside = "".join(f"{peer[name]!s:>14}" if name in peer else "" for peer in peers.values())
            lines.append(f"{name:28}{value!s:>12}{beside}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
