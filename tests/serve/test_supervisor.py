"""The supervisor's decisions, with programs that never get ready; test_stack.py has real engines."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from models.database import Database
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import engine_lifecycle, vllm_command
from serve.fleet.machine import Gpu, Machine
from serve.fleet.supervisor import Supervisor

CARD, OTHER = Gpu(0, "card", 80_000), Gpu(1, "card", 80_000)


def model(name: str, **options) -> ModelSpec:
    return ModelSpec(id=name, kind="base", path="org/name", engine=EngineOptions(**options))


async def until(condition: Callable[[], bool], timeout_s: float = 10) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 -- rows and processes tell no event
            await asyncio.sleep(0.02)


@pytest.fixture
async def supervise(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Supervisor]]:
    """Starts a supervisor on a machine with the given cards."""
    monkeypatch.setattr(vllm_command, "MODULE", "tests.serve.silent_engine")
    monkeypatch.setattr(vllm_command, "_GRACE_S", 1.0)
    started: list[tuple[Supervisor, asyncio.Task]] = []

    def start(*gpus: Gpu) -> Supervisor:
        supervisor = Supervisor(settings, database, Machine((0,), 2**33, gpus))
        started.append((supervisor, asyncio.create_task(supervisor.run())))
        return supervisor

    yield start
    for supervisor, task in started:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await supervisor.stop()


@pytest.mark.long
@pytest.mark.parametrize(
    ("gpus", "share", "at_once"), [((CARD,), None, 1), ((CARD,), 0.4, 1), ((CARD, OTHER), None, 2), ((), None, 2)]
)
async def test_engines_that_share_a_card_start_one_after_another(
    database: Database, supervise, gpus, share: float | None, at_once: int
) -> None:
    for name in ("one", "two"):  # with a fixed share both may start in the same round
        Registry(database).register(model(name, gpu_memory_share=share))
    supervisor = supervise(*gpus)
    await until(lambda: len(supervisor.guardians) == at_once)
    await asyncio.sleep(1.2)
    assert len(supervisor.guardians) == at_once


@pytest.mark.long
async def test_a_slow_hub_delays_no_other_engine_on_the_card(
    database: Database, supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, downloads = asyncio.Event(), []

    async def download(spec: ModelSpec, token: object) -> None:
        downloads.append(spec.id)
        if spec.id == "one":
            await slow.wait()

    monkeypatch.setattr(engine_lifecycle, "download_small_files", download)
    for name in ("one", "two"):
        Registry(database).register(model(name, gpu_memory_share=0.4))
    supervisor = supervise(CARD)
    await until(lambda: any(row.pid for row in supervisor.overview().values()))
    assert supervisor.overview()["two"].pid
    slow.set()
    await asyncio.sleep(1.2)
    assert len(supervisor.guardians) == 1  # now it waits for the other one, as before
    assert sorted(downloads) == ["one", "two"]


@pytest.mark.long
async def test_a_model_without_room_is_refused_alone_and_starts_once_there_is_room(
    database: Database, supervise
) -> None:
    registry = Registry(database)
    registry.register(model("fits", gpu_memory_share=0.6))
    registry.register(model("too-much", gpu_memory_share=0.7))
    supervisor = supervise(CARD)
    await until(lambda: len(supervisor.overview()) == 2)
    assert supervisor.overview()["fits"].state == "starting"
    refused = supervisor.overview()["too-much"]
    assert refused.state == "stopped"
    assert refused.message.startswith("asleep; starts with the next request")
    assert "90% of its memory" in refused.message
    registry.retire("fits")
    await until(lambda: "fits" not in supervisor.overview() and supervisor.overview()["too-much"].pid is not None)
    assert supervisor.overview()["too-much"].state == "starting"


@pytest.mark.long
async def test_an_engine_is_the_supervisors_until_it_is_gone(database: Database, supervise) -> None:
    registry = Registry(database)
    registry.register(model("one"))
    supervisor = supervise()
    await until(lambda: len(supervisor.guardians) == 1)
    await asyncio.sleep(0.5)
    known = supervisor.guardians
    registry.retire("one")
    await asyncio.sleep(0.8)
    assert supervisor.guardians == known
    await until(lambda: not supervisor.guardians)
