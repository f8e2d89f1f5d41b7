"""The targets of `bench.gateway`: direct, Parley and other gateways; how they start, and their CPU time and memory.

Each program runs under a Parley guardian, so that none outlives the bench. The other gateways come from `.peers`
(`make bench-peers`) and run in their cheapest configuration: one worker, no request log. Parley runs with a limited
key, metrics, the usage log and the access log.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.gateway.client import Client
from bench.progress import print_progress
from models.errors import Unavailable
from models.settings.environment import engine_environment
from models.settings.settings import Settings
from serve.fleet.vllm_command import free_port
from serve.processes import guardian
from serve.processes.children import Command, Process, spawn

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
PEER_NAMES = ("vllm-router", "litellm")
DIRECT, PARLEY = "direct", "parley"
_READY_S = 90.0
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Cores:
    """The CPU cores of each side, the same for every target."""

    upstream: tuple[int, ...]
    gateway: tuple[int, ...]
    client: tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """One way to the upstream. `pid` is the root of the gateway's process tree; `process` what the bench started.

    Both are None for direct.
    """

    name: str
    client: Client
    pid: int | None = None
    process: Process | None = None

    def cpu_s(self) -> float:
        """CPU seconds of the process tree so far, ended processes included."""
        return 0.0 if self.pid is None else sum(_cpu_s(pid) for pid in (self.pid, *guardian.descendants(self.pid)))

    def memory_mib(self) -> float:
        """The process tree's resident memory."""
        held = 0
        for pid in guardian.descendants(self.pid) if self.pid else ():
            with suppress(psutil.Error):
                held += psutil.Process(pid).memory_info().rss
        return held / 2**20

    async def settle(self, longest_s: float = 10.0) -> None:
        """Waits until the process tree is idle, so that one measurement does not affect the next."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            before = self.cpu_s()
            await asyncio.sleep(0.2)
            if self.cpu_s() - before < 0.01:
                return


@dataclass(frozen=True)
class Upstream:
    """The server behind every target: an address without `/v1`, its key, the model's name there."""

    address: str
    key: str
    model: str


def share_cores() -> Cores:
    """One core each for gateway and client, the rest for the upstream; with fewer than three cores they share."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if len(cores) < 3:
        return Cores(cores[:1], cores[-1:], cores[:1])
    return Cores(cores[:-2], cores[-2:-1], cores[-1:])


def installed_peers() -> list[str]:
    """The gateways that `make bench-peers` has installed."""
    return [name for name in PEER_NAMES if (PEERS / name / ".installed").is_file()]


def peer_version(name: str) -> str:
    """The pinned version of a gateway."""
    pins = (ROOT / "requirements" / f"peers-{name}.txt").read_text("utf-8")
    match = re.search(rf"^{name}==(\S+)$", pins, re.MULTILINE)
    return match[1] if match else ""


def start_mock(stack: ExitStack, logs: Path, cores: Cores) -> Upstream:
    """Starts the paced mock on one core."""
    port = free_port()
    argv = (sys.executable, "-m", "bench.gateway.mock_upstream", str(port))
    start(stack, Command("mock", argv, engine_environment(), cores.upstream[:1], grace_s=0.5), logs)
    return Upstream(f"http://127.0.0.1:{port}", "none", "mock")


def direct_target(stack: ExitStack, upstream: Upstream) -> Target:
    """The upstream itself, without a gateway."""
    return Target(DIRECT, chat_client(stack, upstream.address, upstream.key))


def parley_target(stack: ExitStack, settings: Settings, environment: dict[str, str], key: str, cores: Cores) -> Target:
    """Starts `parley gateway` over a home that knows the engine's address."""
    command = Command(PARLEY, (sys.executable, "-m", "parley", "gateway"), environment, cores.gateway)
    process = start(stack, command, settings.logs_dir)
    return Target(PARLEY, chat_client(stack, settings.gateway_url.removesuffix("/v1"), key), process.pid, process)


def running_parley_target(stack: ExitStack, settings: Settings, key: str, up: int, cores: Cores) -> Target:
    """The gateway of a running `parley up`, moved to the gateway's cores.

    Raises:
        Unavailable: it runs no gateway.
    """
    for pid in guardian.descendants(up):
        with suppress(psutil.Error):
            if psutil.Process(pid).cmdline()[1:4] == ["-m", "parley", "gateway"]:
                for task in (Path("/proc") / str(pid) / "task").iterdir():
                    os.sched_setaffinity(int(task.name), cores.gateway)
                return Target(PARLEY, chat_client(stack, settings.gateway_url.removesuffix("/v1"), key), pid)
    raise Unavailable("`parley up` runs no gateway.")


def peer_target(stack: ExitStack, name: str, upstream: Upstream, logs: Path, cores: Cores) -> Target:
    """Starts another gateway in front of the upstream."""
    port = free_port()
    make: Callable[[Upstream, int, Path], tuple[tuple[str, ...], str]]
    make = {"vllm-router": _vllm_router, "litellm": _litellm}[name]
    argv, key = make(upstream, port, logs)
    environment = engine_environment(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR", DO_NOT_TRACK="1")
    process = start(stack, Command(name, argv, environment, cores.gateway, grace_s=1.0), logs)
    return Target(name, chat_client(stack, f"http://127.0.0.1:{port}", key), process.pid, process)


def _vllm_router(upstream: Upstream, port: int, _: Path) -> tuple[tuple[str, ...], str]:
    program = str(PEERS / "vllm-router" / "bin" / "vllm-router")
    argv = (program, "--worker-urls", upstream.address, "--host", "127.0.0.1", "--port", str(port))
    quiet = ("--policy", "round_robin", "--log-level", "warning", "--prometheus-port", str(free_port()))
    return (*argv, *quiet), upstream.key  # it forwards the client's key


def _litellm(upstream: Upstream, port: int, logs: Path) -> tuple[tuple[str, ...], str]:
    key = "sk-bench"
    where = {"model": f"openai/{upstream.model}", "api_base": f"{upstream.address}/v1", "api_key": upstream.key}
    content = {
        "model_list": [{"model_name": upstream.model, "litellm_params": where}],
        # Required at start, and checked on every request.
        "general_settings": {"master_key": key},
    }
    config = logs / "litellm.yaml"
    config.write_text(json.dumps(content))  # JSON is YAML too
    program = str(PEERS / "litellm" / "bin" / "litellm")
    return (program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)), key


async def wait_ready(targets: Sequence[Target], body: bytes) -> None:
    """Sends requests to each target until it answers.

    Raises:
        Unavailable: a target does not answer; the message has its last output.
    """
    for target in targets:
        deadline = time.monotonic() + _READY_S
        last = ""
        while True:
            with suppress(OSError):
                response = await target.client.send(target.client.encode_request(body))
                if response.status == 200:
                    break
                last = response.body[:200].decode(errors="replace")
            if target.process is not None and target.process.exit_code() is not None:
                raise Unavailable(f"{target.name} has ended: {target.process.last_words()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{target.name} does not answer after {_READY_S:.0f} s. {last}")
            await asyncio.sleep(0.1)


async def ready_targets(targets: Sequence[Target], body: bytes) -> list[Target]:
    """The targets that answer; prints why others do not."""
    ready = []
    for target in targets:
        try:
            await wait_ready([target], body)
            ready.append(target)
        except Unavailable as error:
            print_progress(f"{error} Continuing without it.")
    return ready


def start(stack: ExitStack, command: Command, logs: Path) -> Process:
    """Starts a command, which is stopped with the stack."""
    process = spawn(command, logs)
    stack.callback(process.stop)
    return process


def chat_client(stack: ExitStack, address: str, key: str) -> Client:
    """A client of a server's chat completions, closed with the stack."""
    client = Client(address + _CHAT, {"authorization": f"Bearer {key}"})
    stack.callback(client.close)
    return client


def _cpu_s(pid: int) -> float:
    """A process's CPU seconds, including ended threads and reaped children."""
    try:
        # The clock id of another process on Linux (clock_getcpuclockid(3)); psutil has only centiseconds.
        own = time.clock_gettime((~pid << 3) | 2)
        times = psutil.Process(pid).cpu_times()
    except (OSError, psutil.Error):
        return 0.0  # it has ended: its parent's times include it
    return own + times.children_user + times.children_system
