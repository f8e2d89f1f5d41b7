"""Compares one gateway process with `gateway_workers = 2`, in turns: throughput, CPU time and memory.

    python -m bench.gateway.processes [--rounds 4] [--requests 6000] [--json]

Both variants serve the same mock upstream with a key, limits, metrics, usage and access log, and may use every core.
Each round measures, for each variant, the requests per second, the requests per second of the gateways' CPU time, and
their resident memory, that of their parent included; with two processes also the share of the CPU time that the less
busy one used. Figures are medians over the rounds. On two cores the mock and the client compete with the gateways, so
requests per second cannot double there.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import uvloop

from bench.gateway import targets
from bench.gateway.client import time_requests
from bench.gateway.home import Home, create_home_with_engine
from bench.gateway.measurements import BODY
from bench.gateway.targets import Cores, Target
from bench.progress import print_progress
from models.errors import ParleyError, Unavailable
from serve.processes import guardian
from serve.processes.children import own_command

_CONNECTIONS = 64
_READY_S = 60.0


@dataclass(frozen=True)
class Variant:
    """`root` is what was started; `processes` are the gateway processes in it, which serve the requests."""

    root: Target
    processes: list[Target]
    per_s: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    smaller_share: list[float] = field(default_factory=list)

    async def measure(self, count: int) -> None:
        """Sends `count` requests and adds a sample to each list."""
        client = self.root.client
        client.close()  # new connections, which are spread over the processes
        request = client.encode_request(json.dumps(BODY).encode())
        await time_requests(client, request, _CONNECTIONS * 2, _CONNECTIONS)
        before, before_all = [process.cpu_s() for process in self.processes], self.root.cpu_s()
        took = await time_requests(client, request, count, _CONNECTIONS)
        await self.root.settle()
        spent = [process.cpu_s() - start for process, start in zip(self.processes, before, strict=True)]
        self.per_s.append(count / took)
        self.per_cpu_s.append(count / (self.root.cpu_s() - before_all))
        self.memory_mib.append(self.root.memory_mib())
        self.smaller_share.append(min(spent) / sum(spent))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; returns the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m bench.gateway.processes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--requests", type=int, default=6000, help="requests per variant and round")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.requests < _CONNECTIONS:
        parser.error(f"--rounds must be at least 1, --requests at least {_CONNECTIONS}")
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            result = uvloop.run(measure(Path(folder), options.rounds, options.requests))
    except (ParleyError, OSError) as error:
        print(f"bench.gateway.processes: {error}", file=sys.stderr)
        return 1
    if not options.json:
        for name, value in result.items():
            print(f"{name:28}{value}")
    print(json.dumps(result))
    return 0


async def measure(folder: Path, rounds: int, requests: int) -> dict[str, Any]:
    """Measures one and two processes in turns; returns the JSON object."""
    load = os.getloadavg()[0]
    everything = tuple(sorted(os.sched_getaffinity(0)))
    with ExitStack() as stack:
        mock = targets.start_mock(stack, folder, Cores(everything, everything, everything))
        variants = []
        for count in (1, 2):
            home = create_home_with_engine(folder / f"home-{count}", mock, gateway_workers=count)
            variants.append(await _start(stack, home, count))
        for number in range(rounds):
            print_progress(f"round {number + 1} of {rounds}")
            for variant in variants if number % 2 == 0 else reversed(variants):
                await variant.measure(requests)
    single, double = variants
    return {
        "requests_per_s": [round(median(variant.per_s)) for variant in variants],
        "requests_per_cpu_s": [round(median(variant.per_cpu_s)) for variant in variants],
        "memory_mib": [round(median(variant.memory_mib), 1) for variant in variants],
        "times_requests": round(median(double.per_s) / median(single.per_s), 3),
        "times_per_cpu_s": round(median(double.per_cpu_s) / median(single.per_cpu_s), 3),
        "smaller_share": round(median(double.smaller_share), 3),
        "rounds": rounds,
        "cores": len(everything),
        "load": round(load, 2),
    }


async def _start(stack: ExitStack, home: Home, count: int) -> Variant:
    """Starts `parley gateway` with the home's number of processes."""
    client = targets.chat_client(stack, home.settings.gateway_url.removesuffix("/v1"), home.key)
    command = own_command("gateways", "gateway", environment=home.environment)
    process = targets.start(stack, command, home.settings.logs_dir)
    root = Target(command.name, client, process.pid, process)
    await targets.wait_ready([root], json.dumps(BODY).encode())
    deadline = time.monotonic() + _READY_S
    while len(pids := _gateways(process.pid)) < count:
        if time.monotonic() > deadline:
            raise Unavailable(f"{len(pids)} of {count} gateway processes run after {_READY_S:.0f} s.")
        await asyncio.sleep(0.1)
    await root.settle()  # one of them may have answered before the other was ready
    return Variant(root, [Target(f"gateway-{pid}", client, pid) for pid in pids])


def _gateways(root: int) -> list[int]:
    """The processes below `root` that serve requests: those of `gateway_workers`, else the only one."""
    programs: list[tuple[int, list[str]]] = []
    for pid in guardian.descendants(root):
        with suppress(psutil.Error):
            programs.append((pid, psutil.Process(pid).cmdline()))
    own = [(pid, line) for pid, line in programs if line[1:4] == ["-m", "parley", "gateway"]]
    return [pid for pid, line in own if "--worker" in line] or [pid for pid, _ in own]


if __name__ == "__main__":
    sys.exit(main())
