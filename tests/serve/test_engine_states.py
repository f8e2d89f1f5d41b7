"""The supervisor's rows, on each kind of database, and the engines desired by a registry."""

from datetime import timedelta

from models.database import Database
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream
from serve.fleet import engine_states
from serve.fleet.engine_states import EngineStatus, ModelState
from serve.fleet.managed_engine import Work
from serve.fleet.placement import desired_state
from serve.processes.activity import Activity


def spec(name: str, kind: str, base: str | None = None) -> ModelSpec:
    upstream = Upstream(base_url="https://example.com/v1", model=name) if kind == "hosted" else None
    path = None if kind == "hosted" else f"org/{name}"
    return ModelSpec.model_validate({"id": name, "kind": kind, "base": base, "path": path, "upstream": upstream})


def test_what_is_published_is_read_and_raises_the_revision(any_database: Database) -> None:
    registry = Registry(any_database)
    for model_spec in (spec("base", "base"), spec("lora", "adapter", "base"), spec("far", "hosted")):
        registry.register(model_spec)
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


def test_an_engine_moves_by_tokens_by_cpu_time_or_by_wanting_it_and_not_by_housekeeping() -> None:
    def work(tokens: float | None, cpu_seconds: float, *wanted: float) -> Work:
        return Work(tokens, Activity(62, cpu_seconds, dict(enumerate(wanted))))

    before = Work(10, Activity(50, 100, {0: 7.0, 1: 20.0}))
    assert work(11, 100).moved_since(before)
    assert work(None, 102).moved_since(before)
    assert work(10, 102).moved_since(before)
    assert not work(10, 100.5).moved_since(before)
    assert not work(None, 100.5).moved_since(before)
    # On a machine that gave it no core, its thread was ready to run for 12 s.
    assert work(10, 100.1, 19.0, 20.0).moved_since(before)
    assert not work(10, 100.1, 8.0, 21.0, 0.5).moved_since(before)
