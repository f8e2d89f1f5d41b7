"""A Ray cluster on this machine: a head without engines, and nodes for them. Ray must be installed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from shutil import which
from typing import Any

from models.settings.settings import Settings
from serve.cluster.actor_process import accepts_connections
from serve.cluster.ray_host import RayHost, connect
from serve.fleet.engine_states import EngineStatus
from serve.fleet.vllm_command import LOOPBACK, free_port
from serve.processes import guardian
from serve.processes.children import ROOT

_STORE_BYTES = 80 * 2**20
_NODE_MEMORY_BYTES = 32 * 2**30  # what the plan of the stand-ins adds up to; they use little of it
_CPUS = 4
_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a-token-of-this-cluster",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONPATH": str(ROOT),
}


class Nodes:
    """A running cluster. Each node is a Ray process of its own, with the processes below it."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.nodes: list[Any] = []

    @property
    def address(self) -> str:
        """The address of the head's Ray, HOST:PORT."""
        return self._cluster.address

    @property
    def survives_its_head(self) -> bool:
        """Whether the head's state is in a Redis, so that it can be restarted."""
        return "RAY_REDIS_ADDRESS" in os.environ

    def kill_head(self) -> None:
        """Kills the head's control service with SIGKILL."""
        self._cluster.head_node.kill_gcs_server()

    def restart_head(self) -> None:
        """Starts the head's control service again, at the same address."""
        self._cluster.head_node.start_gcs_server()

    def add(self) -> None:
        """Starts a node with room for four engines."""
        node = self._cluster.add_node(
            num_cpus=_CPUS, memory=_NODE_MEMORY_BYTES, object_store_memory=_STORE_BYTES, include_dashboard=False
        )
        self.nodes.append(node)

    def kill(self, node: Any) -> None:
        """Kills a node's Ray with SIGKILL, as if its machine had failed."""
        self.nodes.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)

    def replicas_on(self, node: Any, statuses: Mapping[str, EngineStatus]) -> list[str]:
        """The names of the replicas that run on a node."""
        processes = self.processes(node)
        return [name for name, status in statuses.items() if status.pid in processes]

    def processes(self, node: Any) -> set[int]:
        """The pids below a node's Ray: its workers, and the engines with their guardians."""
        raylet = node.all_processes["raylet"][0].process.pid
        return set(guardian.descendants(raylet))


def ray_is_installed() -> bool:
    """Whether Ray can be imported."""
    return find_spec("ray") is not None


@contextmanager
def running_nodes(count: int = 2, *, redis: bool = False, **head: Any) -> Iterator[Nodes]:
    """Runs a cluster with a head and `count` nodes, with token authentication.

    Args:
        redis: keep the head's state in a Redis, if redis-server is installed.
        head: further arguments for Ray's head.
    """
    before = dict(os.environ)
    os.environ |= _ENVIRONMENT  # before Ray is imported, because it reads some of them then
    cluster_utils: Any = import_module("ray.cluster_utils")
    arguments = {"num_cpus": 0, "object_store_memory": _STORE_BYTES, "include_dashboard": False} | head
    with ExitStack() as stack:
        stack.callback(_restore_environment, before)
        if redis and which("redis-server"):
            os.environ["RAY_REDIS_ADDRESS"] = stack.enter_context(_running_redis())
        cluster = cluster_utils.Cluster(initialize_head=True, head_node_args=arguments)
        stack.callback(cluster.shutdown)
        os.environ["RAY_ADDRESS"] = cluster.address
        nodes = Nodes(cluster)
        for _ in range(count):
            nodes.add()
        yield nodes


@contextmanager
def _running_redis() -> Iterator[str]:
    """The address of a Redis that stores nothing on disk."""
    port = free_port()
    command = ["redis-server", "--bind", LOOPBACK, "--port", str(port), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while process.poll() is None and not accepts_connections(LOOPBACK, port):
            time.sleep(0.05)
        yield f"{LOOPBACK}:{port}"
    finally:
        process.terminate()
        process.wait()


def _restore_environment(before: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(before)


@contextmanager
def connected(settings: Settings, address: str = "auto") -> Iterator[RayHost]:
    """The host of engines on the cluster that runs."""
    host = connect(address, settings)
    try:
        yield host
    finally:
        host.close()


def require_ray() -> None:
    """Ends the program with a sentence where Ray is not installed."""
    if not ray_is_installed():
        print(
            "Ray is not installed: run `make test-cluster`, then `.ray/bin/python -m bench.cluster`.", file=sys.stderr
        )
        raise SystemExit(2)
