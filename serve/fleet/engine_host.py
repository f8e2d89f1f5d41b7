"""Where engines run: the interface between the supervisor and the machines.

A host knows what fits, and starts processes. The supervisor decides what should run, and when an engine is restarted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from models.errors import Unavailable
from models.spec import ModelSpec
from serve.fleet.engine_launch import EngineLaunch
from serve.fleet.engine_process import EngineProcess, StartedEngine
from serve.fleet.memory import MemoryUse
from serve.fleet.placement import Fit, Share
from serve.processes.activity import Activity


class NoPlace(Unavailable):
    """No machine has room for an engine at the moment. The start is tried again; it does not count as a failure."""


@dataclass(frozen=True)
class OtherEngines:
    """The engines beside a new one.

    `placed`: name → GPUs of those that stay. `memory`: name → the memory that these use. `freed`: bytes used by those
    that would be stopped.
    """

    placed: Mapping[str, tuple[int, ...]]
    memory: Mapping[str, MemoryUse]
    freed: int = 0


class EngineHost(Protocol):
    """Starts engines. `serve.fleet.local_host` does so on this machine, `serve.cluster.ray_host` on a Ray cluster."""

    def fit(self, engines: Sequence[ModelSpec], others: OtherEngines) -> Fit:
        """The shares of engines that run side by side, in order of priority."""
        ...

    def missing_for_start(self, spec: ModelSpec, share: Share) -> str | None:
        """Why an engine cannot start at the moment; None if it can."""
        ...

    def missing_for_jobs(self) -> int:
        """Bytes that jobs have reserved and that engines use."""
        ...

    async def start(self, launch: EngineLaunch) -> StartedEngine:
        """Starts an engine; returns as soon as it has processes and an address. A cancellation leaves no process.

        Raises:
            NoPlace: no machine has room for it. ParleyError, OSError: it could not be started.
        """
        ...

    async def locate(self, process: EngineProcess, spec: ModelSpec) -> str:
        """The path or hub id under which an engine finds a model's weights. May copy them to its machine first.

        Raises:
            Unavailable: the machine does not answer. ParleyError, OSError: they cannot be copied.
        """
        ...

    def measure_activity(self, process: EngineProcess) -> Activity:
        """What an engine's processes have done so far."""
        ...

    def guardian(self, process: EngineProcess) -> int | None:
        """The pid of an engine's guardian if that is a child of this process."""
        ...
