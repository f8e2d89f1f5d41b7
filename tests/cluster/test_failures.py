"""Engines on a Ray cluster: a replica, an actor, a node and a gateway die while requests run."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

import psutil
import pytest

from bench.cluster.nodes import Nodes
from bench.gateway_process import GatewayProcess
from bench.replicas.deployment import MODEL, Deployment
from bench.replicas.load import load
from bench.replicas.measurements import measure_failure
from models.registry.registry import Registry
from models.spec import ModelSpec
from serve.processes import guardian
from tests.cluster.conftest import WITH_CHILD, Deploy, marked

pytestmark = pytest.mark.long

SECOND = f"{MODEL}#2"
# Sooner than Ray notices a lost node (15 s), on a busy machine too. `bench.cluster` measures how soon.
BACK_S = 15.0


async def survives(deployment: Deployment, fail: Callable[[], None], *names: str) -> None:
    """Under load, only requests on these replicas are lost when they fail, and they are soon back."""
    failure = await measure_failure(deployment, names, fail)
    assert failure.lost_besides == 0, failure
    assert 0 < failure.lost < failure.requests, failure
    assert failure.recovery_s <= BACK_S, failure


async def test_what_dies_takes_only_its_own_requests_with_it(deployed: Deploy, nodes: Nodes) -> None:
    async with deployed(options=WITH_CHILD) as deployment:
        database, home = deployment.gateway.database, deployment.gateway.settings.home
        path = str(home / "weights")
        Registry(database).register(ModelSpec(id="lora", kind="adapter", base=MODEL, path=path, lora_rank=8))
        await deployment.until(lambda: any(name.startswith("lora") for name in deployment.engines))
        await deployment.until(deployment.all_ready)
        assert all(nodes.replicas_on(node, deployment.engines) for node in nodes.nodes), "one on each node"
        assert deployment.supervisor.guardians == set()

        # A replica's program.
        await survives(deployment, lambda: deployment.kill_replica(SECOND), SECOND)
        # The actor of a replica, and with it the guardian's lifeline.
        actor = psutil.Process(deployment.engines[SECOND].pid).parent()
        assert actor is not None
        await survives(deployment, actor.kill, SECOND)
        # A guardian: its program dies at once, and Ray's actor reports it.
        guard = deployment.engines[SECOND].pid
        assert guard is not None
        await survives(deployment, lambda: os.kill(guard, signal.SIGKILL), SECOND)

        # A node, with its Ray. Each replica started again on the node without the other one.
        dying = next(node for node in nodes.nodes if SECOND in nodes.replicas_on(node, deployment.engines))
        names = [name for name in nodes.replicas_on(dying, deployment.engines) if name.startswith(MODEL)]
        assert names == [SECOND]
        doomed = nodes.processes(dying)
        await survives(deployment, lambda: nodes.kill(dying), *names)
        assert not [pid for pid in doomed if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
        nodes.add()
        assert not any("failed" in status.state for status in deployment.engines.values())
        async with load(deployment.gateway.base_url, 1, model="lora") as users:
            await asyncio.sleep(0.5)  # then the stream that runs is completed
        assert users.streams
        assert not users.lost(), "the adapter is back too"
        programs = {deployment.program(name) for name in (MODEL, SECOND)}
        children = [pid for pid in marked(home) if "sleep" in psutil.Process(pid).name()]
        assert len(children) == 2, "those of the two replicas that run"
        assert programs <= set(marked(home))


async def test_a_killed_gateway_takes_its_own_streams_and_no_engine(deployed: Deploy) -> None:
    async with deployed(options=WITH_CHILD) as deployment:
        home = deployment.gateway.settings.home
        engines = {name: status.pid for name, status in deployment.engines.items()}
        with GatewayProcess(home, device="cpu") as other:
            async with load(deployment.gateway.base_url, 4) as first, load(other.base_url, 4) as second:
                await asyncio.sleep(1.5)
                os.kill(other.pid, signal.SIGKILL)
                await asyncio.sleep(1.5)
        assert second.lost()
        assert not first.lost()
        with GatewayProcess(home, device="cpu") as again:
            async with load(again.base_url, 4) as third:
                await asyncio.sleep(1.5)
        assert third.streams
        assert not third.lost()
        assert {name: status.pid for name, status in deployment.engines.items()} == engines


async def test_the_head_is_restarted_after_a_kill(
    deployed: Deploy, nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    if not nodes.survives_its_head:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    caplog.set_level(logging.INFO, "parley.supervisor")
    async with deployed(options=WITH_CHILD) as deployment:
        engines = {name: status.pid for name, status in deployment.engines.items()}
        async with load(deployment.gateway.base_url, 4) as users:
            await asyncio.sleep(1)
            nodes.kill_head()
            await deployment.until(lambda: "does not answer: running engines" in caplog.text)
            await asyncio.sleep(2.5)  # several streams of 1 s while there is no head
            during = len(users.streams)
            nodes.restart_head()
            await deployment.until(lambda: "the head of the Ray cluster answers again" in caplog.text)
        assert during >= 8
        assert not users.lost()
        assert {name: status.pid for name, status in deployment.engines.items()} == engines
        # The restarted head starts engines on nodes that have reconnected.
        await survives(deployment, lambda: deployment.kill_replica(SECOND), SECOND)


async def test_an_engine_stopped_by_a_signal_is_started_again(deployed: Deploy) -> None:
    async with deployed() as deployment:
        program = deployment.program(MODEL)
        os.kill(program, signal.SIGSTOP)
        await deployment.until(lambda: deployment.engines[MODEL].state != "ready")
        await deployment.until(deployment.all_ready)
        assert not psutil.pid_exists(program)
        assert guardian.descendants(deployment.engines[MODEL].pid or 0)
