"""This machine as the host of engines: child processes under guardians, which listen on loopback."""

import asyncio
from collections.abc import Mapping, Sequence

from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.fleet import placement
from serve.fleet.engine_host import OtherEngines
from serve.fleet.engine_launch import EngineLaunch, engine_command
from serve.fleet.engine_process import EngineProcess, StartedEngine
from serve.fleet.machine import Machine
from serve.fleet.memory import MemoryBudget
from serve.fleet.placement import Fit, Share
from serve.fleet.vllm_command import LOOPBACK, Endpoint, free_port
from serve.processes.activity import Activity, measure_activity
from serve.processes.children import Process, spawn


class LocalHost:
    """Implements `serve.fleet.engine_host.EngineHost`."""

    def __init__(self, settings: Settings, machine: Machine, memory: MemoryBudget) -> None:
        self._settings = settings
        self._machine = machine
        self._memory = memory

    def fit(self, engines: Sequence[ModelSpec], others: OtherEngines) -> Fit:
        """As `EngineHost.fit`, by the machine's cores, GPUs and memory."""

        def check(shares: Mapping[str, Share], specs: Mapping[str, ModelSpec]) -> None:
            self._memory.check(shares, specs, others.memory, others.freed)

        return placement.fit(self._machine, engines, self._settings, others.placed, check)

    def missing_for_start(self, spec: ModelSpec, share: Share) -> str | None:
        """As `EngineHost.missing_for_start`: the memory that is not free."""
        return self._memory.missing_for_start(spec, share)

    def missing_for_jobs(self) -> int:
        """As `EngineHost.missing_for_jobs`."""
        return self._memory.missing()

    async def start(self, launch: EngineLaunch) -> StartedEngine:
        """As `EngineHost.start`."""
        endpoint = Endpoint(f"http://{LOOPBACK}:{free_port()}", launch.key)
        command = await asyncio.to_thread(engine_command, launch, endpoint)
        # Not in the thread: the parent ends child processes that the supervisor does not know.
        return StartedEngine(spawn(command, launch.logs), endpoint)

    async def locate(self, process: EngineProcess, spec: ModelSpec) -> str:
        """As `EngineHost.locate`: as registered."""
        return str(spec.path)

    def measure_activity(self, process: EngineProcess) -> Activity:
        """As `EngineHost.measure_activity`."""
        assert isinstance(process, Process)
        # On a CPU, one step over a long prompt can take minutes, and only its CPU time shows that it works.
        return measure_activity(process, spins=self._machine.device == "cuda")

    def guardian(self, process: EngineProcess) -> int:
        """As `EngineHost.guardian`."""
        return process.pid
