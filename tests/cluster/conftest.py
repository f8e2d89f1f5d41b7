"""A Ray cluster of a head and two nodes on this machine, which the tests of this folder share."""

import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.cluster.nodes import Nodes, connected, ray_is_installed, running_nodes
from bench.replicas.deployment import Deployment, deploy
from models.spec import EngineOptions
from serve.fleet import replica_scaling, supervisor, vllm_command
from serve.processes import guardian

# An engine that starts a process which leaves its session, as vLLM's workers could.
WITH_CHILD = EngineOptions(replicas=2, extra_args=("--fake-child",))
Deploy = Callable[..., AbstractAsyncContextManager[Deployment]]


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    if not ray_is_installed():
        pytest.skip("Ray is not installed: run `make test-cluster`.")
    with running_nodes(redis=True, ray_client_server_port=10001) as running:
        yield running


@pytest.fixture
def deployed(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Deploys stand-ins on the cluster. Nothing of them is left at the end."""
    monkeypatch.setattr(vllm_command, "MODULE", vllm_command.MODULE)  # `deploy` changes it
    monkeypatch.setattr(supervisor, "_TICK_S", 0.1)
    monkeypatch.setattr(replica_scaling, "SCALE_DOWN_S", 1.0)
    with tempfile.TemporaryDirectory(prefix="parley-cluster-") as folder:
        home = Path(folder) / "home"

        @asynccontextmanager
        async def deploying(**options: Any) -> AsyncIterator[Deployment]:
            async with deploy(home, connect=connected, **options) as deployment:
                yield deployment

        yield deploying
        assert marked(home) == []


def marked(home: Path) -> list[int]:
    """The pids of what guardians of a home started, zombies left out."""
    mark = f"{guardian.MARK}={home}".encode()
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if mark in guardian._environment(pid)]
