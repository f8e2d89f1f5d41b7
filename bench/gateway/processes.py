"""Compares one gateway process with two on the same sockets, in turns: throughput, CPU time and memory.

    python -m bench.gateway.processes [--rounds 4] [--requests 6000] [--json]

Both variants serve the same mock upstream with a key, limits, metrics, usage and access log, and may use every core.
Each round measures, for each variant, the requests per second, the requests per second of the gateways' CPU time, and
their resident memory; with two processes also the share of the requests that the less busy one served. Figures are
medians over the rounds. On two cores the mock and the client compete with the gateways, so requests per second cannot
double there.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench.gateway import targets
from bench.gateway.client import time_requests
from bench.gateway.home import Home, create_home_with_engine
from bench.gateway.measurements import BODY
from bench.gateway.targets import Cores, Target
from bench.progress import print_progress
from models.errors import ParleyError
from serve.processes.children import own_command
from serve.transport.listen_sockets import open_listen_sockets

_CONNECTIONS = 64


@dataclass(frozen=True)
class Variant:
    """Gateway processes that share one listening socket. Each is a target, for its own CPU time and memory."""

    processes: list[Target]
    per_s: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)
    smaller_share: list[float] = field(default_factory=list)

    async def measure(self, count: int) -> None:
        """Sends `count` requests and adds a sample to each list."""
        client = self.processes[0].client
        client.close()  # new connections, which are spread over the processes
        request = client.encode_request(json.dumps(BODY).encode())
        await time_requests(client, request, _CONNECTIONS * 2, _CONNECTIONS)
        before = [process.cpu_s() for process in self.processes]
        took = await time_requests(client, request, count, _CONNECTIONS)
        for process in self.processes:
            await process.settle()
        spent = [process.cpu_s() - start for process, start in zip(self.processes, before, strict=True)]
        self.per_s.append(count / took)
        self.per_cpu_s.append(count / sum(spent))
        self.memory_mib.append(sum(process.memory_mib() for process in self.processes))
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
            home = create_home_with_engine(folder / f"home-{count}", mock)
            variants.append(Variant(await _start(stack, home, count)))
        for number in range(rounds):
            print_progress(f"round {number + 1} of {rounds}")
            for variant in variants if number % 2 == 0 else reversed(variants):
                await variant.measure(requests)
    one, two = variants
    return {
        "requests_per_s": [round(median(variant.per_s)) for variant in variants],
        "requests_per_cpu_s": [round(median(variant.per_cpu_s)) for variant in variants],
        "memory_mib": [round(median(variant.memory_mib), 1) for variant in variants],
        "times_requests": round(median(two.per_s) / median(one.per_s), 3),
        "times_per_cpu_s": round(median(two.per_cpu_s) / median(one.per_cpu_s), 3),
        "smaller_share": round(median(two.smaller_share), 3),
        "rounds": rounds,
        "cores": len(everything),
        "load": round(load, 2),
    }


async def _start(stack: ExitStack, home: Home, count: int) -> list[Target]:
    """Starts `count` gateways on the sockets of the home's address."""
    sockets = open_listen_sockets(home.settings.host, home.settings.port)
    stack.callback(sockets.close)
    address = home.settings.gateway_url.removesuffix("/v1")
    client = targets.chat_client(stack, address, home.key)
    arguments = ("gateway", "--door", ",".join(map(str, sockets.descriptors)))
    started = []
    for number in range(count):
        command = own_command(
            f"gateway-{number}", *arguments, environment=home.environment, inherited_files=sockets.descriptors
        )
        process = targets.start(stack, command, home.settings.logs_dir)
        target = Target(command.name, client, process.pid, process)
        await targets.wait_ready([target], json.dumps(BODY).encode())
        # Another process on the same socket may have answered: this one is ready once it stops using the CPU.
        await target.settle()
        started.append(target)
    return started


if __name__ == "__main__":
    sys.exit(main())
