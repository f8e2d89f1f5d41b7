"""Engines that do not start, end at once, or cannot do what is requested, with fake engines."""

import pytest

from serve.fleet import engine_lifecycle
from serve.processes import guardian
from tests.serve.test_engine_lifecycle import gone
from tests.serve.test_engine_lifecycle import start as start  # a fixture

pytestmark = pytest.mark.long


async def test_an_adapter_that_its_engine_cannot_take_fails_and_the_engine_stays(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "models.registry.registry.must_be_merged", lambda *_: None
    )  # as in a home of an earlier release
    async with start() as fleet:
        fleet.add("base", architectures=["FalconForCausalLM"])
        fleet.add("tuned", kind="adapter", base="base", lora_rank=8)
        await fleet.ready("base")
        await fleet.until(lambda states: "tuned" in states and states["tuned"].state == "failed")
        assert "without LoRA adapters: merge it" in fleet.supervisor.overview()["tuned"].message
        before = fleet.supervisor.guardians
        assert await fleet.say("base") == "a"
        assert fleet.supervisor.guardians == before


async def test_an_engine_that_cannot_start_is_not_retried_after_other_changes(start) -> None:
    async with start() as fleet:
        fleet.add("broken", "--fake-start-s=no-number")
        fleet.add("dies", "--fake-dies")
        await fleet.until(
            lambda states: all(states.get(n) and states[n].state == "failed" for n in ("broken", "dies")), 30
        )
        broken, dies = (fleet.supervisor.overview()[name].message for name in ("broken", "dies"))
        assert broken.startswith("gave up after 3 failures in a row: ended with status 2: ")
        assert "invalid float value: 'no-number'" in broken
        # Ready each time and dead a moment later: its signal, its last log line, and what to try.
        assert dies.startswith("gave up after 3 failures in a row: was ended by SIGILL (Illegal instruction): Fatal ")
        assert 'File "' in dies
        assert "try another dtype" in dies
        fleet.add("other")
        await fleet.ready("other")
        assert fleet.supervisor.overview()["broken"].state == "failed"
        assert len(fleet.supervisor.guardians) == 1


async def test_a_start_that_makes_progress_gets_more_time(start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_lifecycle, "_STALL_SHARE", 0.5)
    async with start(engine_start_timeout_s=2.0) as fleet:
        fleet.add("slow", "--fake-loads-s=3")
        await fleet.until(lambda _: len(fleet.supervisor.guardians) == 1)
        first = fleet.supervisor.guardians
        await fleet.ready("slow")
        assert fleet.supervisor.guardians == first, "it was not started again"


async def test_a_start_that_never_gets_ready_leaves_no_worker(start) -> None:
    async with start(engine_start_timeout_s=1.5) as fleet:
        fleet.add("never", "--fake-child", "--fake-never-ready")
        await fleet.until(lambda states: len(fleet.supervisor.guardians) == 1)
        (keeper,) = fleet.supervisor.guardians
        await fleet.until(lambda states: len(guardian.descendants(keeper)) == 2)
        tree = guardian.descendants(keeper)
        await fleet.until(lambda states: "not ready within" in states["never"].message)
        await fleet.until(lambda states: keeper not in fleet.supervisor.guardians)
        assert gone(tree)
