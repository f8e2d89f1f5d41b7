"""Training as a job on a Ray cluster: Ray chooses the machines, and an actor on each takes part as a node (`nodes`).

The program that starts the job shows its progress. When it ends, so do the actors and all their processes. Ray is
optional: `parley[ray]`.
"""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from models.database import open_database
from models.errors import Invalid, ParleyError, Unavailable
from models.registry.registry import Registry
from models.settings.settings import Settings, load_settings
from train.request import TrainingRequest
from train.run.folder import TrainingResult
from train.run.node import TIMEOUT_S, Node, NodeResult
from train.run.progress import Event, Progress, Stage, silent

_log = logging.getLogger("parley.train")
_POLL_S = 0.5
_PLACE_S = 60.0  # by default
_END_S = 60.0  # for the other nodes, once one has ended: longer than they take to notice


@dataclass(frozen=True)
class RayJob:
    """A training on a Ray cluster. `address`: auto or ray://HOST:PORT. `gpus`: GPUs per machine, 0 on CPUs.

    `request` is a training, or the id or folder of a run to continue. `timeout_s` limits the wait for free machines and
    then for all nodes to join; by default 60 s and 600 s.
    """

    address: str
    request: TrainingRequest | str
    nodes: int
    gpus: int
    timeout_s: float | None = None


@dataclass(frozen=True)
class NodeEnd:
    """How a node's part ended: its result, or an error's message."""

    result: TrainingResult | NodeResult | None = None
    error: str = ""


class NodeActor:
    """One node of a training, in an actor's process on the machine that Ray chose. Its methods run in threads."""

    def __init__(self) -> None:
        self._events: list[Event] = []

    def address(self) -> tuple[str, int]:
        """This machine's address in the cluster, and a port that is free now."""
        ray: Any = import_module("ray")
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            return host, probe.getsockname()[1]

    def run(self, request: TrainingRequest | str, node: Node, home: Path, device: str) -> NodeEnd:
        """Runs this node's part of the training; returns when it has ended."""
        from models.settings.environment import let_openmp_threads_sleep

        let_openmp_threads_sleep()
        from train.nodes import train_on_nodes

        try:
            with _open(home, device) as (settings, registry):
                result = train_on_nodes(
                    request, node, settings=settings, registry=registry, progress=self._events.append
                )
        except ParleyError as error:  # as data, because not every exception can be pickled
            return NodeEnd(error=str(error))
        except Exception as error:
            _log.exception("the training failed")
            return NodeEnd(error=f"The training failed on node {node.rank}: {type(error).__name__}: {_one_line(error)}")
        return NodeEnd(result)

    def events(self, begin: int) -> list[Event]:
        """The events from index `begin` on."""
        return self._events[begin:]


def train_on_ray(job: RayJob, settings: Settings, progress: Progress = silent) -> TrainingResult:
    """Trains on machines of a Ray cluster; node 0 publishes into the settings' home, which its machine must share.

    Raises:
        Invalid: Ray is not installed. Unavailable: the cluster cannot be used, or lacks free machines. ParleyError: a
        node's error.
    """
    ray = _connect(job.address)
    try:
        job = _adapt(job, ray.cluster_resources())
        group = _reserve(ray, job, progress)
        actors = _create_actors(ray, job, group)
        host, port = ray.get(actors[0].address.remote())
        node = Node(job.nodes, 0, host, port, job.timeout_s or TIMEOUT_S, on=job.address, gpus=job.gpus)
        ends = [
            actor.run.remote(job.request, replace(node, rank=rank), settings.home, settings.device)
            for rank, actor in enumerate(actors)
        ]
        return _follow(ray, actors, ends, progress)
    except ray.exceptions.RayError as error:
        raise Unavailable(f"The training on the Ray cluster failed: {_one_line(error)}") from error
    finally:
        ray.shutdown()  # the actors end with their owner


def _connect(address: str) -> Any:
    try:
        ray: Any = import_module("ray")
    except ImportError:
        raise Invalid("Ray is not installed: run `pip install 'parley[ray]'`.", param="on") from None
    try:
        ray.init(address=address, namespace="parley", log_to_driver=False, logging_level=logging.WARNING)
    except Exception as error:  # Ray has no base class for these
        raise Unavailable(
            f"The Ray cluster at {address} cannot be used: {_one_line(error)} Check that it runs with the same Ray and "
            "Python, and that its token is on this machine."
        ) from error
    return ray


def _adapt(job: RayJob, resources: dict[str, float]) -> RayJob:
    """The job with absolute paths, and without GPUs on a cluster that has none."""
    request = job.request
    if isinstance(request, TrainingRequest):
        paths = {name: str(getattr(request, name)) for name in ("data", "base")}
        absolute: dict[str, Any] = {
            name: str(Path(path).absolute()) for name, path in paths.items() if Path(path).exists()
        }
        request = replace(request, **absolute)
    return replace(job, request=request, gpus=job.gpus if resources.get("GPU") else 0)


def _reserve(ray: Any, job: RayJob, progress: Progress) -> Any:
    """Reserves resources on one machine per node; for node 0 on this machine, if it belongs to the cluster and has
    them.
    """
    needs = {"CPU": 1.0} | ({"GPU": float(job.gpus)} if job.gpus else {})
    here = f"node:{ray.util.get_node_ip_address()}"
    alone = [node for node in ray.nodes() if node["Alive"] and here in node["Resources"]]
    fits = len(alone) == 1 and all(alone[0]["Resources"].get(name, 0) >= need for name, need in needs.items())
    first = needs | ({here: 0.001} if job.address == "auto" and fits else {})
    util: Any = import_module("ray.util")
    group = util.placement_group([first, *([needs] * (job.nodes - 1))], strategy="STRICT_SPREAD")
    what = f"{job.gpus} free GPU{'s' * (job.gpus > 1)}" if job.gpus else "a free CPU"
    progress(Stage(f"Waiting for {job.nodes} machines of the Ray cluster with {what} each"))
    timeout_s = job.timeout_s or _PLACE_S
    if not group.wait(timeout_s):
        raise Unavailable(
            f"The Ray cluster did not have {job.nodes} machines with {what} each within {timeout_s:g} s: use fewer "
            "--nodes or --gpus, give a longer --rendezvous-timeout, or wait until other jobs have ended (see `ray "
            "status`)."
        )
    return group


def _create_actors(ray: Any, job: RayJob, group: Any) -> list[Any]:
    strategies: Any = import_module("ray.util.scheduling_strategies")
    actor = ray.remote(NodeActor)
    return [
        actor.options(
            num_cpus=1,
            num_gpus=job.gpus,
            max_concurrency=2,
            scheduling_strategy=strategies.PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        ).remote()
        for rank in range(job.nodes)
    ]


def _follow(ray: Any, actors: list[Any], ends: list[Any], progress: Progress) -> TrainingResult:
    """Passes on node 0's events until the nodes have ended; returns its result."""
    received, waiting, results = 0, list(ends), {}
    deadline = float("inf")
    while waiting and time.monotonic() < deadline:
        ready, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=_POLL_S)
        for reference in ready:
            results[ends.index(reference)] = _end(ray, reference)
            if results[ends.index(reference)].error or ends.index(reference) == 0:
                deadline = time.monotonic() + _END_S  # the others notice by themselves
        try:
            events = ray.get(actors[0].events.remote(received))
        except ray.exceptions.RayError:
            events = []  # the error is in its NodeEnd
        for event in events:
            progress(event)
        received += len(events)
    for rank in sorted(results):
        if error := results[rank].error:
            raise ParleyError(error)
    first = results[0].result
    assert isinstance(first, TrainingResult)
    return first


def _end(ray: Any, reference: Any) -> NodeEnd:
    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        return NodeEnd(error=f"A machine of the training, or Ray on it, has ended: {_one_line(error)}")


@contextmanager
def _open(home: Path, device: str) -> Iterator[tuple[Settings, Registry | None]]:
    """The home of the program that started the job if this machine shares it, otherwise its own; a registry if there is
    a database.
    """
    settings = load_settings(home=home if home.is_dir() else None, device=device)
    if settings.database_url is None and not (settings.home / "parley.db").exists():
        yield settings, None
        return
    database = open_database(settings)
    try:
        database.check_current()
        yield settings, Registry(database)
    finally:
        database.dispose()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:300].rstrip(".")
    return f"{text or type(error).__name__}."
