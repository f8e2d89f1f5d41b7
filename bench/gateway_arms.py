"""The arms of `bench.gateway`: what is started, on which cores, how it is reached, and what CPU and memory it takes.

Each program runs under a guardian of ours, so that nothing is left running whoever is killed. Peers come from `.peers`
(`make bench-peers`) and run as cheaply as they can: no worker's choice to make, no log line for a request. Parley runs
as its users run it: with a key that has limits, figures, the usage log and the access log.
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

from bench.asking import say
from bench.gateway_client import Client
from models.errors import Unavailable
from models.settings import Settings, engine_environment
from serve.fleet.vllm_command import free_port
from serve.processes import guardian
from serve.processes.children import Command, Process, spawn

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".peers"
PEER_NAMES = ("vllm-router", "litellm")
DIRECT, PARLEY = "direct", "parley"
_READY_S = 90.0
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Cores:
    """Which cores each side has, the same in every arm."""

    upstream: tuple[int, ...]
    gateway: tuple[int, ...]
    client: tuple[int, ...]


@dataclass(frozen=True)
class Arm:
    """One way to the upstream. `pid` is the root of the gateway's process tree, `process` what we started to have it.

    Both are None where there is no gateway.
    """

    name: str
    client: Client
    pid: int | None = None
    process: Process | None = None

    def cpu_s(self) -> float:
        """CPU seconds that the tree has used so far, of processes that have ended too."""
        return 0.0 if self.pid is None else sum(_cpu_s(pid) for pid in (self.pid, *guardian.descendants(self.pid)))

    def memory_mib(self) -> float:
        """Memory that the tree holds now (RSS)."""
        held = 0
        for pid in guardian.descendants(self.pid) if self.pid else ():
            with suppress(psutil.Error):
                held += psutil.Process(pid).memory_info().rss
        return held / 2**20

    async def settle(self, longest_s: float = 10.0) -> None:
        """Waits until it does nothing: what one measurement has left over is not the next one's."""
        deadline = time.monotonic() + longest_s
        while time.monotonic() < deadline:
            before = self.cpu_s()
            await asyncio.sleep(0.2)
            if self.cpu_s() - before < 0.01:
                return


@dataclass(frozen=True)
class Upstream:
    """Where every arm's requests end: an address without `/v1`, its key, the model's name there."""

    address: str
    key: str
    model: str


def share_cores() -> Cores:
    """One core for the gateway and one for the client, the rest for the upstream; with less than three, shared."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    if len(cores) < 3:
        return Cores(cores[:1], cores[-1:], cores[:1])
    return Cores(cores[:-2], cores[-2:-1], cores[-1:])


def installed_peers() -> list[str]:
    """Those peers that `make bench-peers` has installed."""
    return [name for name in PEER_NAMES if (PEERS / name / ".installed").is_file()]


def peer_version(name: str) -> str:
    """The version that the pins say."""
    pins = (ROOT / "requirements" / f"peers-{name}.txt").read_text("utf-8")
    found = re.search(rf"^{name}==(\S+)$", pins, re.MULTILINE)
    return found[1] if found else ""


def start_mock(stack: ExitStack, logs: Path, cores: Cores) -> Upstream:
    """The paced mock, on one core."""
    port = free_port()
    argv = (sys.executable, "-m", "bench.gateway_mock", str(port))
    _start(stack, Command("mock", argv, engine_environment(), cores.upstream[:1], grace_s=0.5), logs)
    return Upstream(f"http://127.0.0.1:{port}", "none", "mock")


def direct(stack: ExitStack, upstream: Upstream) -> Arm:
    """No gateway at all."""
    return Arm(DIRECT, _client(stack, upstream.address, upstream.key))


def parley(stack: ExitStack, settings: Settings, environment: dict[str, str], key: str, cores: Cores) -> Arm:
    """`parley gateway` alone, over a home that says where the engine is."""
    command = Command(PARLEY, (sys.executable, "-m", "parley", "gateway"), environment, cores.gateway)
    process = _start(stack, command, settings.logs_dir)
    return Arm(PARLEY, _client(stack, settings.gateway_url.removesuffix("/v1"), key), process.pid, process)


def running_parley(stack: ExitStack, settings: Settings, key: str, up: int, cores: Cores) -> Arm:
    """The gateway of the `parley up` with this pid, moved to the gateway's cores.

    Raises:
        Unavailable: there is none.
    """
    for pid in guardian.descendants(up):
        with suppress(psutil.Error):
            if psutil.Process(pid).cmdline()[1:4] == ["-m", "parley", "gateway"]:
                for task in (Path("/proc") / str(pid) / "task").iterdir():
                    os.sched_setaffinity(int(task.name), cores.gateway)
                return Arm(PARLEY, _client(stack, settings.gateway_url.removesuffix("/v1"), key), pid)
    raise Unavailable("`parley up` runs no gateway.")


def peer(stack: ExitStack, name: str, upstream: Upstream, logs: Path, cores: Cores) -> Arm:
    """A peer before the upstream."""
    port = free_port()
    make: Callable[[Upstream, int, Path], tuple[tuple[str, ...], str]]
    make = {"vllm-router": _vllm_router, "litellm": _litellm}[name]
    argv, key = make(upstream, port, logs)
    environment = engine_environment(LITELLM_LOCAL_MODEL_COST_MAP="True", LITELLM_LOG="ERROR", DO_NOT_TRACK="1")
    process = _start(stack, Command(name, argv, environment, cores.gateway, grace_s=1.0), logs)
    return Arm(name, _client(stack, f"http://127.0.0.1:{port}", key), process.pid, process)


def _vllm_router(upstream: Upstream, port: int, _: Path) -> tuple[tuple[str, ...], str]:
    program = str(PEERS / "vllm-router" / "bin" / "vllm-router")
    argv = (program, "--worker-urls", upstream.address, "--host", "127.0.0.1", "--port", str(port))
    quiet = ("--policy", "round_robin", "--log-level", "warning", "--prometheus-port", str(free_port()))
    return (*argv, *quiet), upstream.key  # it hands the client's key on


def _litellm(upstream: Upstream, port: int, logs: Path) -> tuple[tuple[str, ...], str]:
    key = "sk-bench"
    where = {"model": f"openai/{upstream.model}", "api_base": f"{upstream.address}/v1", "api_key": upstream.key}
    content = {
        "model_list": [{"model_name": upstream.model, "litellm_params": where}],
        # It starts only with a master key, and asks for it on every request.
        "general_settings": {"master_key": key},
    }
    config = logs / "litellm.yaml"
    config.write_text(json.dumps(content))  # JSON is YAML too
    program = str(PEERS / "litellm" / "bin" / "litellm")
    return (program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)), key


async def until_ready(arms: Sequence[Arm], body: bytes) -> None:
    """Asks each arm until it answers.

    Raises:
        Unavailable: one does not, and what it said last.
    """
    for arm in arms:
        deadline = time.monotonic() + _READY_S
        said = ""
        while True:
            with suppress(OSError):
                reply = await arm.client.ask(arm.client.written(body))
                if reply.status == 200:
                    break
                said = reply.body[:200].decode(errors="replace")
            if arm.process is not None and arm.process.exit_code() is not None:
                raise Unavailable(f"{arm.name} has ended: {arm.process.last_words()}")
            if time.monotonic() > deadline:
                raise Unavailable(f"{arm.name} does not answer after {_READY_S:.0f} s. {said}")
            await asyncio.sleep(0.1)


async def those_ready(arms: Sequence[Arm], body: bytes) -> list[Arm]:
    """Those of the arms that answer; of the others it says why not."""
    ready = []
    for arm in arms:
        try:
            await until_ready([arm], body)
            ready.append(arm)
        except Unavailable as error:
            say(f"{error} Going on without it.")
    return ready


def _start(stack: ExitStack, command: Command, logs: Path) -> Process:
    process = spawn(command, logs)
    stack.callback(process.stop)
    return process


def _client(stack: ExitStack, address: str, key: str) -> Client:
    client = Client(address + _CHAT, {"authorization": f"Bearer {key}"})
    stack.callback(client.close)
    return client


def _cpu_s(pid: int) -> float:
    """A process's CPU time to the nanosecond, with its ended threads, and that of the children it has collected."""
    try:
        # Linux's id of another process's clock (clock_getcpuclockid(3)); psutil's counts hundredths of a second.
        own = time.clock_gettime((~pid << 3) | 2)
        times = psutil.Process(pid).cpu_times()
    except (OSError, psutil.Error):
        return 0.0  # it ended meanwhile: its parent has its time now
    return own + times.children_user + times.children_system
