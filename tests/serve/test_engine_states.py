"""The supervisor's rows, on each kind of database, and what it wants from a registry."""

from datetime import timedelta

from models.database import Database
from models.registry import Registry
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus, ModelState
from serve.fleet.managed_engine import Work
from serve.fleet.placement import desired_state


def spec(name: str, kind: str, base: str | None = None) -> ModelSpec:
    upstream = Upstream(base_url="https://example.com/v1", model=name) if kind == "hosted" else None
    path = None if kind == "hosted" else f"org/{name}"
    return ModelSpec.model_validate({"id": name, "kind": kind, "base": base, "path": path, "upstream": upstream})


def test_what_is_published_is_read_and_raises_the_revision(any_database: Database) -> None:
    registry = Registry(any_database)
    for one in (spec("base", "base"), spec("lora", "adapter", "base"), spec("far", "hosted")):
        registry.register(one)
    before = registry.revision()
    engine_states.write_statuses(any_database, [EngineStatus("base", "starting", message="starting")])
    engine_states.write_statuses(any_database, [EngineStatus("base", "ready", "http://127.0.0.1:1", 7)])
    assert registry.revision() == before + 2
    assert engine_states.read_statuses(any_database)["base"] == EngineStatus("base", "ready", "http://127.0.0.1:1", 7)
    assert engine_states.model_states(any_database) == {
        "base": ModelState("ready"),
        "lora": ModelState("stopped", "its engine is not running"),
        "far": ModelState("ready"),
    }
    engine_states.delete_statuses(any_database, ["base"])
    assert engine_states.read_statuses(any_database) == {}
    assert registry.revision() == before + 3


def test_demand_is_kept_once_and_grows_old(any_database: Database) -> None:
    engine_states.record_demand(any_database, "base")
    first = engine_states.read_demand(any_database, timedelta(minutes=1))["base"]
    engine_states.record_demand(any_database, "base")
    assert engine_states.read_demand(any_database, timedelta(minutes=1))["base"] >= first
    assert engine_states.read_demand(any_database, timedelta(0)) == {}


def test_engines_are_wanted_for_bases_and_merged_models_and_adapters_hang_on_them() -> None:
    wanted = desired_state(
        [
            spec("base", "base"),
            spec("merged", "merged", "base"),
            spec("one", "adapter", "base"),
            spec("two", "adapter", "merged"),
            spec("orphan", "adapter", "gone"),
            spec("far", "hosted"),
        ]
    )
    assert set(wanted.engines) == {"base", "merged"}
    assert {name: set(hanging) for name, hanging in wanted.adapters.items()} == {"base": {"one"}, "merged": {"two"}}


def test_an_engine_moves_by_tokens_or_by_cpu_time_and_not_by_housekeeping() -> None:
    before = Work(tokens=10, cpu_seconds=100, at=50)
    assert Work(11, 100, 62).moved_since(before)
    assert Work(None, 102, 62).moved_since(before)
    assert Work(10, 102, 62).moved_since(before)
    assert not Work(10, 100.5, 62).moved_since(before)
    assert not Work(None, 100.5, 62).moved_since(before)
