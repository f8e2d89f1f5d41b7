"""A Ray cluster as the host of engines: each engine is an actor, and Ray chooses its node.

Actors and not Ray Serve: Serve counts the requests that pass through its own handles, and drains, stops and scales
replicas by that count, but here requests go straight to an engine's socket. Its replicas have no names of their own,
although each has other adapters. It also restarts replicas by itself, as the supervisor does, and opens an HTTP proxy
on each node. The supervisor starts an engine again whose actor is gone, and Ray places that on a node that is alive.
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from models.errors import Invalid, ParleyError, Unavailable
from models.settings.settings import Settings
from models.spec import ModelSpec
from serve.cluster.actor_process import ActorProcess, accepts_connections, describe, kill
from serve.cluster.engine_actor import WORKER_ENVIRONMENT, EngineActor, EngineStart, NodePlace
from serve.cluster.head_watch import HeadWatch
from serve.cluster.weight_sender import WeightSender
from serve.fleet.engine_host import NoPlace, OtherEngines
from serve.fleet.engine_launch import EngineLaunch
from serve.fleet.engine_process import EngineProcess, StartedEngine
from serve.fleet.machine import Machine
from serve.fleet.memory import MemoryBudget
from serve.fleet.placement import Fit, Share
from serve.processes.activity import Activity

_GIB = 1024**3
_POLL_S = 0.1
_ANSWER_POLL_S = 0.02
# How long Ray may take to find a node and to start a process there.
_PLACE_S = 30.0
# Longer than the download of a hub model's small files, which the node makes first.
_START_S = 180.0
_CLOSE_S = 5.0
# Longer than Ray takes to notice that a node is gone.
_SUSPECT_S = 60.0
# Ray's error if the head was restarted without its state.
_NEW_HEAD = "WrongClusterID"
_AFTER_NEW_HEAD = "Ray's head was restarted without its state: start Ray again on every machine, then Parley"
_log = logging.getLogger("parley.supervisor")


class RayHost:
    """Implements `serve.fleet.engine_host.EngineHost`. `close` ends every engine. `head`: watches the head."""

    def __init__(self, ray: Any, settings: Settings, report: Callable[[str], None], head: HeadWatch | None) -> None:
        self._ray = ray
        self._settings = settings
        self._memory = MemoryBudget(Machine((), 0), settings)
        self._resources: dict[str, float] = ray.cluster_resources()
        self._processes: set[ActorProcess] = set()
        self._suspects: dict[str, float] = {}  # node id → when an engine was lost there
        self._weights = WeightSender(ray, report)
        self._head = head
        self._threads = ThreadPoolExecutor(2, "ray")
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="ray-engines", daemon=True)
        self._watcher.start()

    def describe(self) -> str:
        """The cluster in a few words."""
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        gpus, cpus = (int(self._resources.get(name, 0)) for name in ("GPU", "CPU"))
        return f"a Ray cluster of {nodes} node{'s' * (nodes != 1)} with {cpus} CPUs and {gpus} GPUs"

    def close(self) -> None:
        """Disconnects. The actors end with their owner, and the engines with their actors."""
        self._closed.set()
        self._watcher.join(_CLOSE_S)
        self._threads.shutdown(cancel_futures=True)
        self._ray.shutdown()

    def fit(self, engines: Sequence[ModelSpec], others: OtherEngines) -> Fit:
        """As `EngineHost.fit`: all whose KV cache is large enough, because an engine without a place waits for one."""
        fit = Fit()
        for spec in engines:
            share = self._share(spec)
            try:
                if share.device == "cpu":
                    self._memory.check_cache(spec, share)
            except ParleyError as error:
                fit.refused[spec.id] = str(error)
            else:
                fit.shares[spec.id] = share
        return fit

    def missing_for_start(self, spec: ModelSpec, share: Share) -> str | None:
        """As `EngineHost.missing_for_start`: nothing, because `start` waits for a node."""
        return None

    def missing_for_jobs(self) -> int:
        """As `EngineHost.missing_for_jobs`: nothing, because jobs run on this machine."""
        return 0

    async def start(self, launch: EngineLaunch) -> StartedEngine:
        """As `EngineHost.start`: on a node that Ray chooses, at its address in the cluster."""
        actor = None
        try:
            actor = await self._in_thread(self._create_actor, launch)
            place = await self._place(actor, launch)
            spec = await self._on_node(actor, place, launch.spec)
            launch = replace(launch, spec=spec, certificate=self._certificate())
            async with asyncio.timeout(_START_S):
                started: EngineStart = await self._answer(actor.start.remote(launch))
            if started.endpoint is None:
                raise Unavailable(started.failure)
            process = ActorProcess(self._ray, actor, started, launch.spec.id)
        except BaseException as error:
            if actor is not None:
                self._threads.submit(kill, self._ray, actor)
            if _NEW_HEAD in str(error):
                raise NoPlace(_AFTER_NEW_HEAD) from error
            if isinstance(error, self._ray.exceptions.RayError):
                raise Unavailable(describe(error)) from error
            if isinstance(error, TimeoutError):
                raise Unavailable(f"its node did not start it within {_START_S:.0f} s") from error
            raise
        self._processes.add(process)
        gpus = f", GPU {', '.join(map(str, started.gpus))}" if started.gpus else ""
        return StartedEngine(process, started.endpoint, f"{started.node}{gpus}")

    async def locate(self, process: EngineProcess, spec: ModelSpec) -> str:
        """As `EngineHost.locate`: on the engine's node, after a copy if it has no access to the folder."""
        assert isinstance(process, ActorProcess)
        try:
            return str((await self._on_node(process.actor, process.place, spec)).path)
        except self._ray.exceptions.RayError as error:
            raise Unavailable(describe(error)) from error

    def _certificate(self) -> tuple[Path, Path] | None:
        certificate, key = self._settings.engine_tls_certificate, self._settings.engine_tls_key
        return (certificate, key) if certificate and key else None

    async def _place(self, actor: Any, launch: EngineLaunch) -> NodePlace:
        try:
            async with asyncio.timeout(_PLACE_S):
                return await self._answer(actor.place.remote())
        except TimeoutError as error:
            raise NoPlace(f"waiting for a node of the Ray cluster with {_needs(launch)}") from error

    async def _on_node(self, actor: Any, place: NodePlace, spec: ModelSpec) -> ModelSpec:
        """The model with the path of its weights on an actor's node."""
        if spec.folder is None:
            return spec
        folder = await self._weights.provide(actor, place.address, spec.folder)
        return spec if folder == spec.folder else spec.model_copy(update={"path": str(folder)})

    def measure_activity(self, process: EngineProcess) -> Activity:
        """As `EngineHost.measure_activity`."""
        assert isinstance(process, ActorProcess)
        return process.activity

    def guardian(self, process: EngineProcess) -> None:
        """As `EngineHost.guardian`: it is never a child of this process."""

    def _share(self, spec: ModelSpec) -> Share:
        device = self._settings.device
        if device == "cuda" or (device == "auto" and self._resources.get("GPU", 0)):
            return Share("cuda", gpu_memory_share=spec.engine.gpu_memory_share or self._settings.gpu_memory_share)
        return Share("cpu", kv_cache_bytes=int(self._settings.cpu_kv_cache_gib * _GIB))

    def _create_actor(self, launch: EngineLaunch) -> Any:
        resources = (
            {"num_gpus": launch.spec.engine.gpus}
            if launch.share.device == "cuda"
            else {"num_cpus": launch.spec.engine.gpus, "memory": launch.memory_bytes}
        )
        actor = self._ray.remote(EngineActor).options(
            max_restarts=0,
            max_concurrency=4,
            scheduling_strategy="SPREAD",
            **self._node_choice(launch.spec.id),
            runtime_env={"env_vars": WORKER_ENVIRONMENT},
            **resources,
        )
        return actor.remote(self._settings.home)

    def _node_choice(self, model: str) -> dict[str, Any]:
        """Ray's options for the node: one with as few replicas of the model as possible, and none that is gone.

        SPREAD alone may place a replica that restarts beside the others.
        """
        gone = self._gone_nodes()
        running = [process for process in tuple(self._processes) if process.exit_code() is None]
        replicas = Counter(process.place.id for process in running if process.model == model)
        most = [[node for node, count in replicas.items() if count >= level] for level in sorted({*replicas.values()})]
        first, *others = [{"label_selector": _outside([*gone, *used])} for used in (*most, [])]
        return first | ({"fallback_strategy": others} if others else {})

    def _gone_nodes(self) -> list[str]:
        """The ids of nodes that Ray counts as alive, although nothing listens there any more.

        Ray notices after some 15 s that a node is gone. Until then, it would place engines on it.
        """
        now = time.monotonic()
        suspects = {node for node, lost_at in tuple(self._suspects.items()) if now - lost_at < _SUSPECT_S}
        return [
            node["NodeID"]
            for node in (self._ray.nodes() if suspects else ())
            if node["Alive"]
            and node["NodeID"] in suspects
            and not accepts_connections(node["NodeManagerAddress"], node["NodeManagerPort"])
        ]

    async def _answer(self, reference: Any) -> Any:
        # Polled, because a thread that waits could not be interrupted.
        while not (await self._in_thread(lambda: self._ray.wait([reference], timeout=0)))[0]:  # noqa: ASYNC110 -- as above
            await asyncio.sleep(_ANSWER_POLL_S)
        return await self._in_thread(self._ray.get, reference)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _watch(self) -> None:
        """Collects what actors report, in a thread: a call of Ray's client may wait for the network."""
        while not self._closed.is_set():
            try:
                if self._head is not None:
                    self._head.check()
                self._collect()
            except Exception as error:
                # Ray's client raises errors of many kinds when its connection is gone; with it go all actors.
                _log.exception("the connection to the Ray cluster failed")
                for process in tuple(self._processes):
                    process.lose(f"lost the connection to the Ray cluster ({error}): restart Parley")
            for process in tuple(self._processes):
                if process.exit_code() is not None:
                    self._processes.discard(process)
                    if process.lost_at is not None:
                        self._suspects[process.place.id] = process.lost_at

    def _collect(self) -> None:
        by_reference = {reference: process for process in tuple(self._processes) for reference in process.requests()}
        if not by_reference:
            self._closed.wait(_POLL_S)
            return
        # All of them, so that it returns at the timeout and not at once for each.
        ready, _ = self._ray.wait(list(by_reference), num_returns=len(by_reference), timeout=_POLL_S)
        for reference in ready:
            by_reference[reference].take(reference)


def connect(address: str, settings: Settings, report: Callable[[str], None] = _log.info) -> RayHost:
    """Connects to a cluster. `address`: `auto`, or ray://HOST:10001.

    Raises:
        Invalid: Ray is not installed. Unavailable: the cluster cannot be reached, or refuses the connection.
    """
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise Invalid("Ray is not installed: run `pip install 'parley[ray]'`.", param="ray_address") from None
    try:
        ray.init(address=address, namespace="parley", log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray has no base class for these
        raise Unavailable(
            f"The Ray cluster at {address} cannot be used: {_one_line(error)} Check that it runs with the same Ray "
            "and Python, and that its token is on this machine."
        ) from error
    # With ray://, the connection itself ends with the head.
    head = HeadWatch(ray.get_runtime_context().gcs_address, report) if address == "auto" else None
    return RayHost(ray, settings, report, head)


def _outside(nodes: Sequence[str]) -> dict[str, str]:
    """Ray's selector for nodes that are not among these."""
    return {"ray.io/node-id": f"!in({','.join(nodes)})"} if nodes else {}


def _needs(launch: EngineLaunch) -> str:
    count = launch.spec.engine.gpus
    if launch.share.device == "cuda":
        return f"{count} free GPU{'s' * (count != 1)}"
    return f"{count} free CPU{'s' * (count != 1)} and {launch.memory_bytes / _GIB:.1f} GiB of memory"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".")
    return f"{text or type(error).__name__}."
