"""A supervisor with stand-in engines, behind a gateway in a separate process."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.gateway_process import GatewayProcess
from models.registry.registry import Registry
from models.registry.scaling import scale_model
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import vllm_command
from serve.fleet.engine_host import EngineHost
from serve.fleet.engine_states import EngineStatus
from serve.fleet.machine import detect_machine
from serve.fleet.supervisor import Supervisor
from serve.processes import guardian

MODEL = "stand-in"
STAND_IN = "tests.serve.fake_engine"
_TIMEOUT_S = 90.0


@dataclass
class Deployment:
    """A running supervisor and gateway. `engines` are the statuses of the replicas by their names."""

    supervisor: Supervisor
    gateway: GatewayProcess

    @property
    def engines(self) -> dict[str, EngineStatus]:
        """The replicas that are desired now."""
        return self.supervisor.overview()

    async def scale(self, replicas: int) -> None:
        """Changes the number of replicas and waits until they are ready and the gateway knows them."""
        scale_model(Registry(self.gateway.database), MODEL, replicas)
        await self.until(lambda: len(self.engines) == replicas and self.all_ready())
        await asyncio.sleep(1)

    def all_ready(self) -> bool:
        """Whether every replica is ready."""
        return bool(self.engines) and all(status.state == "ready" for status in self.engines.values())

    async def until(self, condition: Callable[[], bool]) -> float:
        """Waits for a condition; returns the seconds that it took. Raises TimeoutError."""
        began = time.monotonic()
        async with asyncio.timeout(_TIMEOUT_S):
            while not condition():  # noqa: ASYNC110 -- processes send no event
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    def program(self, name: str) -> int:
        """The pid of a replica's program."""
        pid = self.engines[name].pid
        assert pid is not None
        return guardian.descendants(pid)[0]

    def kill_replica(self, name: str) -> None:
        """Sends SIGKILL to a replica's program."""
        os.kill(self.program(name), signal.SIGKILL)


@asynccontextmanager
async def deploy(
    home: Path,
    *,
    running_per_replica: int = 100,
    options: EngineOptions | None = None,
    settings: Mapping[str, Any] | None = None,
    connect: Callable[[Settings], AbstractContextManager[EngineHost | None]] = lambda settings: nullcontext(),
) -> AsyncIterator[Deployment]:
    """Runs the stand-in behind a gateway. Engines that run when the block ends are stopped.

    Args:
        running_per_replica: the most requests that the gateway sends to a replica at once.
        options: the stand-in's; by default, one replica.
        settings: of the supervisor and the gateway, beside those for stand-ins.
        connect: provides the host of the engines; None for this machine.
    """
    vllm_command.MODULE = STAND_IN
    chosen = {"running_per_model": running_per_replica, "queue_size": 1000, "device": "cpu", "cpu_kv_cache_gib": 0.25}
    process = GatewayProcess(home, **(chosen | dict(settings or {})))
    with process as gateway, connect(gateway.settings) as host:
        machine = detect_machine(gateway.settings)
        supervisor = Supervisor(gateway.settings, gateway.database, machine, host=host)
        task = asyncio.create_task(supervisor.run())
        try:
            spec = ModelSpec(id=MODEL, kind="base", path=str(weights(home)), engine=options or EngineOptions())
            Registry(gateway.database).register(spec)
            deployment = Deployment(supervisor, gateway)
            await deployment.until(deployment.all_ready)
            await asyncio.sleep(1)
            yield deployment
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await supervisor.stop()


def stand_ins() -> list[int]:
    """The pids of all stand-in engines on this machine."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if STAND_IN in (process.info["cmdline"] or ()) and process.status() != psutil.STATUS_ZOMBIE
    ]


def weights(home: Path) -> Path:
    """A folder that passes for a model's weights."""
    folder = home / "weights"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").touch()
    (folder / "config.json").write_text(json.dumps({"architectures": []}))
    return folder
