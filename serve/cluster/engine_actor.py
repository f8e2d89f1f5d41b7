"""One engine on a node of a Ray cluster: the actor that starts it there with Parley's own command.

The engine is a child process of the actor under a guardian, so it ends with the actor, its node's Ray, or the program
that started the actor. Requests never pass through Ray.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from models.errors import ParleyError
from models.settings.settings import load_settings
from serve.cluster.manifest import Manifest
from serve.cluster.weight_copies import WeightCopies, has_files
from serve.fleet.engine_launch import EngineLaunch, engine_command
from serve.fleet.hub_files import download_small_files
from serve.fleet.vllm_command import Endpoint, free_port
from serve.processes.activity import Activity, measure_activity
from serve.processes.children import Process, kill_strays, spawn
from serve.processes.guardian import become_subreaper

_POLL_S = 0.05
# Ray would kill the guardian, not what is below it, when an actor ends. Left alone, the guardian ends its whole tree.
WORKER_ENVIRONMENT = {"RAY_kill_child_processes_on_worker_exit": "0"}


@dataclass(frozen=True)
class EngineStart:
    """Where an engine listens, its node's address and id, and its GPUs; or why it could not be started."""

    endpoint: Endpoint | None = None
    pid: int = 0
    node: str = ""
    node_id: str = ""
    gpus: tuple[int, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class EngineReport:
    """A running engine, as measured on its node. The fields are results of `Process`' methods."""

    activity: Activity
    memory_bytes: int = 0
    frozen: bool = False
    last_words: str = ""


@dataclass(frozen=True)
class EngineEnd:
    """How an engine ended. The fields are results of `Process`' methods."""

    exit_code: int
    exit_reason: str
    last_words: str = ""


class NodePlace(NamedTuple):
    """Where an actor runs: its node's address in the cluster, and Ray's id of the node."""

    address: str
    id: str


class EngineActor:
    """Starts one engine on the node and the GPUs that Ray chose. Its methods run in threads.

    Args:
        home: the home of `parley up`. The node uses it if the machines share it, otherwise its own.
    """

    def __init__(self, home: Path) -> None:
        self._ray: Any = import_module("ray")
        self._home = home if home.is_dir() else load_settings().home
        self._copies = WeightCopies(self._home / "cache" / "weights")
        self._process: Process | None = None
        self._spins = False

    def place(self) -> NodePlace:
        """Where it runs."""
        return NodePlace(self._ray.util.get_node_ip_address(), self._ray.get_runtime_context().get_node_id())

    # `serve.cluster.weight_sender` calls these. They return a failure as a sentence, because not every exception can be
    # pickled.

    def has_files(self, folder: Path, sizes: Mapping[str, int]) -> bool:
        """Whether the node has a folder with these files, by names and sizes."""
        return has_files(folder, sizes)

    def begin_copy(self, manifest: Manifest) -> Path | str | None:
        """The folder of a complete copy; None if the files have to be sent."""
        return _failure_as_data(self._copies.begin, manifest)

    def write_copy(self, name: str, piece: bytes) -> str | None:
        """Appends a piece to a file of the copy."""
        return _failure_as_data(self._copies.write, name, piece)

    def finish_copy(self) -> Path | str:
        """Checks the copy's hashes and publishes it; returns its folder."""
        return _failure_as_data(self._copies.finish)

    def start(self, launch: EngineLaunch) -> EngineStart:
        """Starts the engine; returns once its process exists."""
        node, node_id = self.place()
        try:
            gpus = tuple(int(index) for index in self._ray.get_gpu_ids())
            launch = replace(launch, share=replace(launch.share, gpus=gpus), home=self._home)
            _check_files(launch, node)
            asyncio.run(download_small_files(launch.spec, launch.hub_token))
            scheme = "https" if launch.certificate else "http"
            endpoint = Endpoint(f"{scheme}://{node}:{free_port(node)}", launch.key)
            command = engine_command(launch, endpoint)
            command = replace(command, environment=_without_ray(command.environment, cuda=bool(gpus)))
            # What a killed guardian leaves becomes a child of this process: see `wait`.
            become_subreaper()
            self._spins, self._process = bool(gpus), spawn(command, launch.logs)
        except (ParleyError, OSError, ValueError) as error:
            return EngineStart(failure=str(error) or type(error).__name__)
        return EngineStart(endpoint, self._process.pid, node, node_id, gpus)

    def report(self) -> EngineReport:
        """The engine's state now."""
        process = self._running()
        return EngineReport(
            measure_activity(process, spins=self._spins),
            process.memory_bytes(),
            process.is_frozen(whole_tree=True),
            process.last_words(),
        )

    def wait(self) -> EngineEnd:
        """Returns when the engine has ended."""
        process = self._running()
        while (code := process.exit_code()) is None:
            time.sleep(_POLL_S)
        kill_strays(())
        return EngineEnd(code, process.exit_reason(), process.last_words())

    def stop(self, *, kill: bool) -> int:
        """Stops the engine's whole tree, with `kill` without a grace; returns its exit code."""
        process = self._running()
        return process.kill() if kill else process.stop()

    def _running(self) -> Process:
        assert self._process is not None
        return self._process


def _failure_as_data(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except (ParleyError, OSError) as error:
        return str(error) or type(error).__name__


def _check_files(launch: EngineLaunch, node: str) -> None:
    folder = launch.spec.folder
    if folder is not None and not folder.is_dir():
        raise ParleyError(
            f"neither the node {node} nor the machine of `parley up` has the folder {folder}: restore it on one of them"
        )
    for path in launch.certificate or ():
        if not path.is_file():
            raise ParleyError(f"the node {node} has no file {path}: copy the engines' TLS files to every node")


def _without_ray(environment: Mapping[str, str], *, cuda: bool) -> dict[str, str]:
    """An engine's environment without what Ray sets for its own processes."""
    # Ray limits its processes to a thread for each CPU that they reserve. On a CPU, the engine's command sets its own.
    dropped = {"OMP_NUM_THREADS"} if cuda else set()
    return {name: value for name, value in environment.items() if not name.startswith("RAY_") and name not in dropped}
