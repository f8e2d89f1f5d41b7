"""Engines on a Ray cluster: replicas follow the load, and a model is replaced while it is used."""

import asyncio
from pathlib import Path

import pytest

from bench.replicas.deployment import MODEL, Deployment, weights
from bench.replicas.load import load
from models.registry.registry import Registry
from models.spec import EngineOptions, ModelSpec
from tests.cluster.conftest import Deploy

pytestmark = pytest.mark.long


def running(deployment: Deployment) -> int:
    return sum(status.state == "ready" for status in deployment.engines.values())


async def test_replicas_follow_the_load(deployed: Deploy) -> None:
    options = EngineOptions(replicas=1, max_replicas=3, target_running=3)
    async with deployed(options=options) as deployment:
        assert running(deployment) == 1
        async with load(deployment.gateway.base_url, 9) as busy:
            await deployment.until(lambda: running(deployment) == 3)
        assert not busy.lost()
        async with load(deployment.gateway.base_url, 1) as quiet:
            await deployment.until(lambda: len(deployment.engines) == 1)
            await asyncio.sleep(1)
        assert not quiet.lost()
        assert running(deployment) == 1


async def test_a_model_is_replaced_without_a_lost_request(deployed: Deploy) -> None:
    async with deployed(options=EngineOptions(replicas=2)) as deployment:
        home: Path = deployment.gateway.settings.home
        registry = Registry(deployment.gateway.database)
        registry.alias("live", MODEL)
        await asyncio.sleep(1)  # until the gateway knows it
        async with load(deployment.gateway.base_url, 6, model="live") as users:
            await asyncio.sleep(1)
            # The new version, on two replicas beside the old one; then the alias moves, and the old version goes.
            registry.register(
                ModelSpec(id="v2", kind="merged", path=str(weights(home)), engine=EngineOptions(replicas=2))
            )
            await deployment.until(lambda: {"v2", "v2#2"} <= deployment.engines.keys() and deployment.all_ready())
            registry.alias("live", "v2")
            await asyncio.sleep(1)
            registry.retire(MODEL)
            await deployment.until(lambda: deployment.engines.keys() == {"v2", "v2#2"})
            # Its first adapter: its engines restart for it, one after the other.
            before = {name: status.pid for name, status in deployment.engines.items()}
            registry.register(ModelSpec(id="lora", kind="adapter", base="v2", path=str(weights(home)), lora_rank=8))
            await deployment.until(
                lambda: (
                    all(
                        name in deployment.engines and deployment.engines[name].pid not in (None, pid)
                        for name, pid in before.items()
                    )
                    and deployment.all_ready()
                )
            )
            await asyncio.sleep(1)
        assert len(users.streams) > 6
        assert not users.lost()
