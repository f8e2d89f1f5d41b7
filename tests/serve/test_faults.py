"""Upstreams that fail in every way of `bench.faults.proxy`: no silent cut, no repeated request, no endless wait."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.faults.upstream_faults import FaultRun, Model, cases, timeout_settings
from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import load_settings
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream

SILENCE_S = 2.0
# All of them as raw bytes; with the SDK, which costs more than the rest together, those that it could misread.
BY_SDK = {"malformed", "ends early, cleanly", "wrong content type", "empty", "429", "500"}
CHOSEN = [case for case in cases() if case.client == "raw" or case.fault.name in BY_SDK]


class House:
    """A gateway of this process, with the interface of the bench's path part."""

    def __init__(self, gateway: Serving, weights: Path) -> None:
        self.base_url = gateway.base_url
        self._gateway = gateway
        self._weights = weights

    def add(self, models: Sequence[Model]) -> None:
        self._weights.mkdir(exist_ok=True)
        (self._weights / "model.safetensors").touch()
        registry: Registry = self._gateway.registry
        for model in models:
            if model.hosted:
                upstream = Upstream(base_url=f"{model.address}/v1", model=model.name)
                registry.register(ModelSpec(id=model.name, kind="hosted", upstream=upstream, fallbacks=model.fallbacks))
            else:
                registry.register(ModelSpec(id=model.name, kind="base", path=str(self._weights)))
        rows = [engine_states.EngineStatus(model.name, "ready", model.address) for model in models if not model.hosted]
        engine_states.write_statuses(self._gateway.database, rows)
        last = rows[-1].name
        self._gateway.seen(lambda snapshot: last in snapshot.routes and snapshot.routes[last].address is not None)


def tasks(gateway: Serving) -> int:
    """How many tasks the gateway's loop has besides the engine pool's timer, which starts with its first connection."""
    names = [getattr(task.get_coro(), "__name__", "") for task in asyncio.all_tasks(gateway.app.watcher._loop)]
    return sum(name != "_check_timeouts" for name in names)


@pytest.mark.long
def test_no_fault_of_an_upstream_is_silent_repeated_or_endless(
    database: Database, home: Path, upstream: PacedUpstream
) -> None:
    with serving(load_settings(home=home, **timeout_settings(SILENCE_S)), database) as gateway:
        before = tasks(gateway)
        run = FaultRun(House(gateway, home / "weights"), upstream.address, silence_s=SILENCE_S, slack_s=15)
        report = asyncio.run(run.run(CHOSEN, rounds=1, at_once=32))
        assert report.complaints == []
        assert len(report.rows) == len(CHOSEN) > 126
        assert report.neighbour.streams > 10
        # The clients have gone, and all tasks for their requests have ended.
        deadline = time.monotonic() + 10
        while tasks(gateway) > before:
            assert time.monotonic() < deadline, asyncio.all_tasks(gateway.app.watcher._loop)
            time.sleep(0.05)
