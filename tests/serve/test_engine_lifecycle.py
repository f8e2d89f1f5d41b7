"""Models that change while Parley runs, and more of them than fit: a real gateway and supervisor, fake engines.

Real engines do the same in test_real_engines.py.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from models.database import Database
from models.jobs.jobs import release_memory, reserve_memory
from models.registry.registry import Registry
from models.registry.scaling import scale_model
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import engine_api, engine_lifecycle, engine_states, supervisor, vllm_command
from serve.fleet.machine import Gpu, Machine
from serve.fleet.supervisor import Supervisor
from serve.processes import guardian
from tests.serve.gateways import Serving, serving

pytestmark = pytest.mark.long

GIB = 2**30
ONE_ENGINE_GIB = 2.5


@dataclass
class Fleet:
    """What a test needs: the registry, the supervisor, and a client of the gateway."""

    registry: Registry
    supervisor: Supervisor
    gateway: Serving
    client: openai.AsyncOpenAI
    home: Path

    def add(
        self, name: str, *extra: str, kind: str = "base", sleep_after_s: float | None = None, **fields: Any
    ) -> None:
        folder = self.home / f"weights-{name}"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"")
        config = {"architectures": fields.pop("architectures", [])}
        (folder / "config.json").write_text(json.dumps(config))
        options = EngineOptions(extra_args=extra, sleep_after_s=sleep_after_s, replicas=fields.pop("replicas", 1))
        self.registry.register(ModelSpec(id=name, kind=kind, path=str(folder), engine=options, **fields))
        self.gateway.seen(lambda snapshot: name in snapshot.routes)

    async def until(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 15) -> float:
        began = time.monotonic()
        while not condition(self.supervisor.overview()):
            assert time.monotonic() - began < timeout_s, self.supervisor.overview()
            await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def ready(self, *names: str) -> None:
        await self.until(lambda states: all(name in states and states[name].state == "ready" for name in names))

    async def stream(self, model: str, count: int) -> str:
        stream = await self.client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "count"}], max_tokens=count, stream=True
        )
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    async def say(self, model: str) -> str | None:
        answer = await self.client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
        return answer.choices[0].message.content


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def counted(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


@pytest.fixture
def start(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts a fleet under settings of the test's own."""
    monkeypatch.setattr(vllm_command, "MODULE", "tests.serve.fake_engine")
    # A tenth of every interval, so that the tests need not wait.
    monkeypatch.setattr(supervisor, "_TICK_S", 0.05)
    monkeypatch.setattr(supervisor, "_DEMAND_INTERVAL_S", 0.1)
    monkeypatch.setattr(engine_lifecycle, "BACKOFF_LIMIT_S", 0.2)
    for name in ("_FROZEN_INTERVAL_S", "_USE_INTERVAL_S", "_IDLE_INTERVAL_S"):
        monkeypatch.setattr(engine_lifecycle, name, getattr(engine_lifecycle, name) / 10)

    @asynccontextmanager
    async def starting(stay_s: float = 0.0, gpus: tuple[Gpu, ...] = (), **changed: Any) -> AsyncIterator[Fleet]:
        chosen = settings.model_copy(update={"device": "cpu", "cpu_kv_cache_gib": 0.25, **changed})
        chosen.home.mkdir(parents=True, exist_ok=True)
        running = Supervisor(chosen, database, Machine((0, 1), 8 * GIB, gpus), stay_s=stay_s)
        task = asyncio.create_task(running.run())
        try:
            with serving(chosen, database) as gateway:
                async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="any", max_retries=0) as client:
                    yield Fleet(Registry(database), running, gateway, client, chosen.home)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await running.stop()

    return starting


async def test_models_come_and_go_while_streams_run(start) -> None:
    async with start() as fleet:
        fleet.add("base")
        fleet.add("goes")
        await fleet.ready("base", "goes")
        streams = {name: asyncio.create_task(fleet.stream(name, 50)) for name in ("base", "goes")}
        await asyncio.sleep(0.3)
        # An adapter, a merged model and a hosted one come; a model whose stream runs is retired.
        fleet.add("adapter", kind="adapter", base="base", lora_rank=8)
        fleet.add("merged", kind="merged", base="base")
        fleet.registry.retire("goes")
        await fleet.ready("adapter", "merged")
        assert await fleet.say("adapter") == "a"
        hanging = asyncio.create_task(fleet.stream("adapter", 30))
        await asyncio.sleep(0.2)
        fleet.registry.retire("adapter")
        fleet.registry.pin("base")
        fleet.registry.alias("other", "merged")
        fleet.gateway.seen(lambda snapshot: "goes" not in snapshot.routes and "other" in snapshot.routes)
        with pytest.raises(openai.NotFoundError):
            await fleet.say("goes")
        assert await fleet.say("other") == "a"
        assert {name: await stream for name, stream in streams.items()} == {"base": counted(50), "goes": counted(50)}
        assert await hanging == counted(30)
        await fleet.until(lambda states: len(fleet.supervisor.guardians) == 2)
        with pytest.raises(openai.NotFoundError):
            await fleet.say("adapter")


async def test_an_engine_that_does_not_come_to_an_end_is_stopped_at_the_limit(start) -> None:
    async with start(drain_timeout_s=1.5) as fleet:
        fleet.add("one")
        await fleet.ready("one")
        stream = asyncio.create_task(fleet.stream("one", 400))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        fleet.registry.retire("one")
        with pytest.raises(openai.APIError):
            await stream
        assert 1.3 < time.monotonic() - began < 6


async def test_more_models_than_memory_take_turns(start) -> None:
    async with start(engine_memory_gib=ONE_ENGINE_GIB) as fleet:
        fleet.add("first")
        fleet.add("second")
        await fleet.ready("first")
        asleep = fleet.supervisor.overview()["second"]
        assert asleep.state == "stopped"
        assert asleep.message.startswith("asleep; starts with the next request")
        assert "second needs 1.4 GiB" in asleep.message
        running = asyncio.create_task(fleet.stream("first", 50))
        await asyncio.sleep(0.3)
        # A request starts it: the other's answer ends first, and the request waits meanwhile.
        assert await fleet.say("second") == "a"
        assert await running == counted(50)
        await fleet.until(lambda states: states["first"].state == "stopped")
        assert fleet.supervisor.overview()["first"].message == "asleep; starts with the next request"
        assert await fleet.say("first") == "a"
        await fleet.until(lambda states: states["second"].state == "stopped")
        assert len(fleet.supervisor.guardians) == 1


async def test_a_request_for_an_adapter_starts_its_base(start) -> None:
    async with start(engine_memory_gib=ONE_ENGINE_GIB) as fleet:
        fleet.add("base")
        fleet.add("adapter", kind="adapter", base="base", lora_rank=8)
        fleet.add("other")
        await fleet.ready("base", "adapter")
        assert await fleet.say("other") == "a"
        states = {name: status.state for name, status in fleet.supervisor.overview().items()}
        assert states == {"base": "stopped", "adapter": "stopped", "other": "ready"}
        assert await fleet.say("adapter") == "a"
        assert fleet.supervisor.overview()["other"].state == "stopped"


async def test_the_least_recently_used_goes_and_a_pinned_one_never(start) -> None:
    async with start(engine_memory_gib=5.0) as fleet:
        for name in ("old", "used", "pinned"):
            fleet.add(name)
        fleet.registry.pin("pinned")
        await fleet.ready("old", "used", "pinned")
        await asyncio.sleep(1)
        assert await fleet.say("used") == "a"
        await asyncio.sleep(1)
        fleet.add("late")
        await fleet.until(lambda states: "late" in states)
        assert await fleet.say("late") == "a"
        states = {name: status.state for name, status in fleet.supervisor.overview().items()}
        assert states == {"old": "stopped", "used": "ready", "pinned": "ready", "late": "ready"}


async def test_an_idle_or_unloaded_engine_sleeps_until_the_next_request_and_a_pinned_one_does_not(start) -> None:
    async with start() as fleet:
        for name in ("pinned", "idle"):
            fleet.add(name, sleep_after_s=1.0)
        fleet.registry.pin("pinned")
        await fleet.ready("pinned", "idle")
        busy = asyncio.create_task(fleet.stream("idle", 40))  # it works for 2 s, which is not idle
        await asyncio.sleep(1.5)
        assert fleet.supervisor.overview()["idle"].state == "ready"
        assert await busy == counted(40)
        await fleet.until(lambda states: states["idle"].state == "stopped")
        # Another model's arrival does not start it, and a request does.
        fleet.add("other")
        await fleet.ready("other")
        assert fleet.supervisor.overview()["idle"].state == "stopped"
        assert await fleet.say("idle") == "a"
        engine_states.unload_model(fleet.gateway.database, "other")
        await fleet.until(lambda states: states["other"].state == "stopped")
        assert await fleet.say("other") == "a"
        assert fleet.supervisor.overview()["pinned"].state == "ready"


async def test_a_replica_without_room_does_not_take_that_of_its_unloaded_model(start) -> None:
    async with start(engine_memory_gib=ONE_ENGINE_GIB) as fleet:
        fleet.add("one", replicas=2)
        fleet.add("other")
        await fleet.ready("one")
        engine_states.unload_model(fleet.gateway.database, "one")
        await fleet.until(lambda states: states["one"].state == "stopped" and not fleet.supervisor.guardians)
        fleet.registry.retire("other")  # after which every engine that found no room is placed
        await fleet.until(lambda states: [row.state for row in states.values()] == ["stopped", "stopped"])


async def test_what_can_never_fit_is_refused_with_what_would(start) -> None:
    async with start(engine_memory_gib=1.0) as fleet:
        fleet.add("big")
        await fleet.until(lambda states: "big" in states)
        big = fleet.supervisor.overview()["big"]
        assert big.state == "failed"
        assert "needs 1.5 GiB" in big.message
        assert "1.0 GiB are free" in big.message
        fleet.gateway.seen(lambda snapshot: "big" in snapshot.routes and snapshot.routes["big"].state.state == "failed")
        with pytest.raises(openai.InternalServerError, match=r"needs 1\.5 GiB"):
            await fleet.say("big")


async def test_pinned_engines_are_named_where_they_leave_no_room(start) -> None:
    async with start(engine_memory_gib=ONE_ENGINE_GIB, queue_wait_s=1.5) as fleet:
        fleet.add("kept")
        fleet.registry.pin("kept")
        await fleet.ready("kept")
        fleet.add("other")
        await fleet.until(lambda states: "other" in states)
        with pytest.raises(openai.InternalServerError):
            await fleet.say("other")
        assert "kept is pinned" in fleet.supervisor.overview()["other"].message
        assert fleet.supervisor.overview()["kept"].state == "ready"
        fleet.registry.unpin("kept")
        await fleet.ready("other")


async def test_an_engine_started_by_a_request_stays_for_a_while(start) -> None:
    async with start(stay_s=2.0, engine_memory_gib=ONE_ENGINE_GIB) as fleet:
        fleet.add("first")
        fleet.add("second")
        await fleet.ready("first")
        # The first one started without a request, because there was room.
        assert await fleet.say("second") == "a"
        began = time.monotonic()
        assert await fleet.say("first") == "a"
        assert time.monotonic() - began > 2.0


async def test_engines_make_room_for_a_job_and_return_with_the_next_request(start, database: Database) -> None:
    async with start() as fleet:
        fleet.add("kept")
        fleet.registry.pin("kept")
        fleet.add("moves")
        await fleet.ready("kept", "moves")
        running = asyncio.create_task(fleet.stream("moves", 20))
        await asyncio.sleep(0.2)
        reserve_memory(database, "a training", 2**50, 60)
        await fleet.until(lambda states: states["moves"].state == "stopped")
        assert await running == counted(20)
        await asyncio.sleep(0.5)
        assert fleet.supervisor.overview()["kept"].state == "ready"
        release_memory(database, "a training")
        assert await fleet.say("moves") == "a"


async def test_room_on_a_card_is_made_without_dropping_an_answer(start) -> None:
    async with start(gpus=(Gpu(0, "card", 80_000),)) as fleet:
        fleet.add("first")
        await fleet.ready("first")
        (before,) = fleet.supervisor.guardians
        running = asyncio.create_task(fleet.stream("first", 30))
        await asyncio.sleep(0.2)
        fleet.add("second")
        assert await running == counted(30)
        await fleet.ready("first", "second")
        assert before not in fleet.supervisor.guardians
        assert await fleet.say("first") == await fleet.say("second") == "a"
        before = fleet.supervisor.guardians
        scale_model(fleet.registry, "first", 2)  # no room is made for a replica: that would interrupt its own model
        await fleet.until(lambda states: "first#2" in states and "would have to restart" in states["first#2"].message)
        assert fleet.supervisor.guardians == before


async def test_an_engine_stopped_by_a_signal_is_detected_and_restarted(start) -> None:
    async with start() as fleet:
        fleet.add("one")
        await fleet.ready("one")
        (keeper,) = fleet.supervisor.guardians
        (program,) = guardian.descendants(keeper)
        os.kill(program, signal.SIGSTOP)
        await fleet.until(lambda states: states["one"].state != "ready")
        await fleet.ready("one")
        assert gone([program])
        assert await fleet.say("one") == "a"


@pytest.mark.parametrize("how", ["hang", "work"])
async def test_an_engine_that_hangs_is_started_again_and_one_that_works_is_not(
    start, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    for name in ("_PROBE_INTERVAL_S", "_PROBE_RETRY_S", "_PROBE_TIMEOUT_S"):
        monkeypatch.setattr(engine_lifecycle, name, getattr(engine_lifecycle, name) / 10)
    monkeypatch.setattr(engine_api, "METRICS_TIMEOUT_S", 0.5)
    async with start() as fleet:
        fleet.add("one")
        await fleet.ready("one")
        before = fleet.supervisor.guardians
        request = asyncio.create_task(
            fleet.client.chat.completions.create(model="one", messages=[{"role": "user", "content": "hi"}], user=how)
        )
        if how == "work":
            assert (await request).choices[0].message.content == "a"
            assert fleet.supervisor.guardians == before
            return
        took = await fleet.until(lambda states: states["one"].state != "ready")
        assert took < engine_lifecycle.DETECTION_S / 10 + 2
        with pytest.raises(openai.APIError):
            await request
        await fleet.ready("one")
        assert await fleet.say("one") == "a"


async def test_engines_that_are_killed_again_and_again_come_back(start) -> None:
    async with start() as fleet:
        fleet.add("one")
        for _ in range(3):
            await fleet.ready("one")
            (keeper,) = fleet.supervisor.guardians
            (program,) = guardian.descendants(keeper)
            os.kill(program, signal.SIGKILL)
            await fleet.until(lambda states: states["one"].state != "ready")
        await fleet.ready("one")
        assert await fleet.say("one") == "a"


async def test_an_engine_whose_files_cannot_be_written_says_why(start: Callable[..., Any]) -> None:
    async with start() as fleet:
        (fleet.home / "cache").mkdir(exist_ok=True)
        (fleet.home / "cache" / "engines").touch()  # where the folder of its chat template would be
        (fleet.home / "weights").mkdir()
        (fleet.home / "weights" / "model.safetensors").touch()
        template = EngineOptions(chat_template="{{ messages }}")
        fleet.registry.register(ModelSpec(id="m", kind="base", path=str(fleet.home / "weights"), engine=template))
        await fleet.until(lambda states: "m" in states and "cache/engines" in states["m"].message)


async def test_replicas_come_go_and_die_without_a_lost_request(start) -> None:
    async with start() as fleet:
        fleet.add("one", replicas=2)
        fleet.add("lora", kind="adapter", base="one", lora_rank=8)
        await fleet.ready("one", "one#2")
        await fleet.until(lambda states: any(states[n].state == "ready" for n in ("lora", "lora#2") if n in states))
        streams = [asyncio.create_task(fleet.stream("one", 60)) for _ in range(4)]
        await asyncio.sleep(0.2)
        scale_model(fleet.registry, "one", 3)
        await fleet.ready("one#3")
        # A replica without streams is killed; clients do not notice.
        (program,) = guardian.descendants(fleet.supervisor.overview()["one#3"].pid)
        os.kill(program, signal.SIGKILL)
        assert await asyncio.gather(*(fleet.say("one") for _ in range(12))) == ["a"] * 12
        await fleet.until(lambda states: states["one#3"].state == "ready")
        scale_model(fleet.registry, "one", 1)
        assert await asyncio.gather(*streams) == [counted(60)] * 4
        await fleet.until(lambda states: len(fleet.supervisor.guardians) == 1)
        assert await fleet.say("lora") == "a"
        assert set(fleet.supervisor.overview()) == {"one", "lora"}
