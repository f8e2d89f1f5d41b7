"""The number of replicas, their adapters, their restarts: decisions without processes."""

import time
from datetime import timedelta

import pytest

from models.database import Database, utcnow
from models.errors import Invalid
from models.registry.registry import Registry
from models.registry.scaling import scale_model
from models.settings.settings import Settings
from models.spec import EngineOptions, ModelSpec
from serve.fleet import engine_states
from serve.fleet.adapter_placement import IDLE_S, AdapterPlacement
from serve.fleet.engine_demand import wake_replicas
from serve.fleet.engine_states import EngineState, EngineStatus, ModelState
from serve.fleet.managed_engine import Drain, ManagedEngine
from serve.fleet.placement import Share, desired_state
from serve.fleet.replica_names import model_of, replica_name, replica_number
from serve.fleet.replica_scaling import SCALE_DOWN_S, ReplicaScaling
from serve.fleet.replicas import Replicas
from serve.launcher.startup_output import StartupOutput


def model(name: str = "m", **options) -> ModelSpec:
    return ModelSpec(id=name, kind="base", path="org/name", engine=EngineOptions(**options))


def adapter(name: str) -> ModelSpec:
    return ModelSpec(id=name, kind="adapter", base="m", path="org/lora")


def test_replicas_have_names_that_no_model_has() -> None:
    assert [replica_name("org/m:v1", number) for number in (1, 2, 12)] == ["org/m:v1", "org/m:v1#2", "org/m:v1#12"]
    assert (model_of("org/m:v1#12"), replica_number("org/m:v1#12"), replica_number("org/m:v1")) == ("org/m:v1", 12, 1)
    with pytest.raises(ValueError, match="a model's name"):
        model("m#2")
    with pytest.raises(ValueError, match=r"max_replicas \(1\) must not be less than replicas \(2\)"):
        model(replicas=2, max_replicas=1)
    with pytest.raises(ValueError, match="250 characters at most"):
        model("m" * 251, max_replicas=2)  # no room for a number in a row's name
    assert model("m" * 251).id


def test_every_model_is_placed_once_before_its_replicas() -> None:
    wanted = desired_state([model("a"), model("b")], ["a"], {"a": [2, 3, 5]})
    assert list(wanted.engines) == ["a#2", "b", "a#3", "a#5"]
    assert wanted.pinned == {"a#2", "a#3", "a#5"}


def test_the_number_of_replicas_follows_the_load_between_its_bounds() -> None:
    spec = model(replicas=1, max_replicas=3, target_running=4)
    scaling = ReplicaScaling()

    def count(now: float, *loads: float) -> int:
        scaling.follow_load({"m": spec}, {"m": dict(enumerate(loads, 1))}, now)
        return scaling.counts([spec])["m"]

    assert scaling.counts([spec, adapter("lora")]) == {"m": 1}
    assert count(0, 4) == 1
    assert count(1, 5) == 2
    # The second one is still starting, so the load of the first one does not count for both.
    assert count(2, 30) == 2
    assert count(3, 30, 0) == 3
    assert count(4, 1, 0, 0) == 3
    assert count(4 + SCALE_DOWN_S / 2, 9, 0, 0) == 3
    assert count(5 + SCALE_DOWN_S, 1, 0, 0) == 3
    assert count(6 + 2 * SCALE_DOWN_S, 1, 0, 0) == 2
    # None stops while fewer are ready than would remain.
    assert count(200, 9, 9, 9) == 3
    for now in (300, 400):
        scaling.follow_load({"m": spec}, {"m": {2: 1}}, now)
    assert scaling.counts([spec]) == {"m": 3}
    for now in (500, 600):
        scaling.follow_load({"m": spec}, {"m": {2: 1, 3: 0}}, now)
    assert scaling.counts([spec]) == {"m": 2}
    # A change of the bounds applies at once, and a fixed number ignores the load.
    assert scaling.counts([model(replicas=5)]) == {"m": 5}
    assert not scaling.follow_load({"m": model(replicas=5)}, {"m": dict.fromkeys(range(1, 6), 90)}, 999)


def test_an_adapter_is_on_one_replica_and_moves_only_if_that_fails() -> None:
    placement, adapters = AdapterPlacement(), {f"lora-{number}": adapter(f"lora-{number}") for number in range(40)}

    def placed(ready: set[int], loaded: dict[int, set[str]] | None = None) -> dict[int, set[str]]:
        return {n: set(placement.wanted_on(n, adapters, ready, loaded or {})) for n in (1, 2, 3)}

    before = placed({1, 2, 3})
    assert sum(map(len, before.values())) == 40
    assert all(before.values())
    after = placed({1, 3})
    assert after[2] == set()
    assert after[1] >= before[1]
    assert after[3] >= before[3]
    # Adapters that were loaded meanwhile stay when the second one is back.
    back = placed({1, 2, 3}, after)
    assert back == {1: after[1], 2: before[2], 3: after[3]}
    placement.spread("lora-7")
    assert sum("lora-7" in names for names in placed({1, 2, 3}).values()) == 2
    # Before any is ready, one of them has the row with that state.
    assert placed(set())[1] == set(adapters)
    assert placement.wanted_on(3, {"x" * 255: adapter("x" * 255)}, {3, 5}, {})  # too long for a number: on one only


def test_an_adapter_without_requests_returns_to_one_replica() -> None:
    placement, adapters = AdapterPlacement(), {"lora": adapter("lora")}
    placement.spread("lora")
    loaded = {number: ["lora"] for number in (1, 2) if placement.wanted_on(number, adapters, {1, 2}, {})}
    assert loaded.keys() == {1, 2}

    def replicas(now: float, *used: str, loaded: dict[int, list[str]] = loaded) -> list[int]:
        placement.follow_use({"lora": len(loaded)}, used, now)
        return [number for number in (1, 2) if placement.wanted_on(number, adapters, {1, 2}, loaded)]

    assert replicas(0) == [1, 2]
    assert replicas(IDLE_S - 1) == [1, 2]
    assert replicas(IDLE_S, "lora") == [1, 2]
    assert replicas(2 * IDLE_S) == [1, 2]
    (kept,) = replicas(2 * IDLE_S + 1)
    assert replicas(2 * IDLE_S + 2, loaded={kept: ["lora"]}) == [kept]
    # A copy stays while the replica that should have the adapter has not loaded it yet.
    other = 3 - kept
    assert replicas(3 * IDLE_S, loaded={other: ["lora"]}) == [1, 2]
    # With the next load it spreads again.
    placement.spread("lora")
    assert replicas(4 * IDLE_S, "lora") == [1, 2]


def engine(number: int, *, runs: bool = False, **values) -> ManagedEngine:
    share = Share("cpu") if runs else None
    return ManagedEngine(model(), number, share=share, asleep_since=utcnow() - timedelta(minutes=5), **values)


def test_a_request_wakes_one_replica_and_the_others_follow_where_there_is_room() -> None:
    asleep = [engine(1, waits_for_request=True), engine(2, waits_for_request=True)]
    assert not wake_replicas(asleep, None, ())
    assert not wake_replicas(asleep, utcnow(), ())
    assert [row.requested_at is not None for row in asleep] == [True, False]
    second = [engine(1, runs=True), asleep[1]]
    assert wake_replicas(second, None, ())
    assert not asleep[1].waits_for_request
    assert not wake_replicas(second, None, ()), "it was tried a moment ago"
    # One that is being put to sleep is not running.
    leaves = engine(1, runs=True, drain=Drain("sleep", "unloaded", 0.0))
    assert not wake_replicas([leaves, engine(2, waits_for_request=True)], None, ())


def test_a_pinned_engine_waits_for_room_without_an_end() -> None:
    pinned, other = engine(1, requested_at=time.monotonic() - 500), engine(1, requested_at=time.monotonic() - 500)
    pinned.state = other.state = "starting"
    wake_replicas([pinned], None, {"m"})
    wake_replicas([other], None, ())
    assert (pinned.state, other.state, other.requested_at) == ("starting", "stopped", None)


def test_adapters_belong_to_a_replica_that_starts_before_one_that_has_failed() -> None:
    engines = {"m": engine(1, state="failed"), "m#2": engine(2, runs=True, state="starting")}
    replicas = Replicas(engines)
    replicas.update([model(replicas=2), adapter("lora")], ())
    assert [set(replicas.adapters_wanted_on(row)) for row in engines.values()] == [set(), {"lora"}]
    engines["m#2"].state = "failed"
    assert [set(replicas.adapters_wanted_on(row)) for row in engines.values()] == [{"lora"}, set()]


def test_of_several_replicas_one_restarts_at_a_time() -> None:
    engines = {"m": engine(1, runs=True, state="ready"), "m#2": engine(2, runs=True, state="starting")}
    replicas = Replicas(engines)
    replicas.update([model(replicas=2), adapter("lora")], ())
    assert not replicas.may_restart(engines["m"])
    assert set(replicas.adapters_wanted_on(engines["m"])) == {"lora"}
    assert set(replicas.adapters_wanted_on(engines["m#2"])) == set()
    engines["m#2"].state = "ready"
    assert replicas.may_restart(engines["m"])
    # One that waits for memory may do so for long, and is not running.
    engines["m#2"].state, engines["m#2"].lacks_memory = "starting", True
    assert replicas.may_restart(engines["m"])
    replicas.update([model(), adapter("lora")], ())
    assert list(replicas.desired.engines) == ["m"]


def test_the_ready_replicas_stay_where_fewer_are_wanted() -> None:
    states: dict[int, EngineState] = {1: "starting", 2: "failed", 3: "ready"}
    engines = {replica_name("m", number): engine(number, state=state) for number, state in states.items()}
    replicas = Replicas(engines)

    def kept(number: int, *specs: ModelSpec) -> list[str]:
        replicas.update([model(replicas=number), *specs], ())
        return list(replicas.desired.engines)

    assert kept(3) == ["m", "m#2", "m#3"]
    assert kept(2) == ["m", "m#3"]
    assert kept(1) == ["m#3"]
    assert replicas.is_first(engines["m#3"])
    assert replicas.of("m") == [engines["m#3"]]
    assert kept(2, adapter("lora")) == ["m", "m#3"]
    # Where none is ready or starts, an adapter's row is on one that is there.
    for row in engines.values():
        row.state = "failed"
    kept(1)
    kept(2, adapter("lora"))
    assert [set(replicas.adapters_wanted_on(engines[name])) for name in ("m", "m#2")] == [{"lora"}, set()]


def test_a_model_is_in_the_best_state_of_its_replicas(any_database: Database) -> None:
    registry = Registry(any_database)
    registry.register(model(replicas=2))
    rows = [
        EngineStatus("m", "starting", message="starting again"),
        EngineStatus("m#2", "ready", "http://127.0.0.1:1", 7),
    ]
    engine_states.write_statuses(any_database, rows)
    assert engine_states.replicas_of(engine_states.read_statuses(any_database)) == {"m": rows}
    message = "1 of 2 replicas are ready; m: starting again"
    assert engine_states.model_states(any_database) == {"m": ModelState("ready", message)}
    engine_states.write_statuses(any_database, [EngineStatus("m", "ready", "http://127.0.0.1:2", 8)])
    assert engine_states.model_states(any_database) == {"m": ModelState("ready")}
    engine_states.record_spread(any_database, "lora")
    assert engine_states.take_spread_requests(any_database) == {"lora"}
    assert engine_states.take_spread_requests(any_database) == set()
    engine_states.record_use(any_database, "lora")
    assert engine_states.take_use_reports(any_database) == {"lora"}
    assert engine_states.take_use_reports(any_database) == set()


def test_the_startup_output_names_models(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"m": "starting", "m#2": "ready", "m#3": "stopped", "n": "stopped", "n#2": "stopped"}
    models = {name: EngineStatus(name, state) for name, state in rows.items()}  # type: ignore[arg-type] -- states
    StartupOutput().ready(settings, page=False, models=models)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Models", "m"] in lines
    assert ["Asleep", "n:", "they", "start", "with", "the", "next", "request"] in lines


def test_a_model_is_scaled_while_it_is_registered(database: Database) -> None:
    registry = Registry(database)
    registry.register(model())
    registry.alias("other", "m")
    before = registry.revision()
    scale_model(registry, "other", 2, 4, 16)
    options = registry.resolve("m").engine
    assert (options.replicas, options.most_replicas, options.target_running) == (2, 4, 16)
    assert registry.revision() == before + 1
    scale_model(registry, "m", 3)
    options = registry.resolve("m").engine
    assert (options.replicas, options.most_replicas, options.target_running) == (3, 3, 16)
    for replicas in (0, 65):
        with pytest.raises(Invalid, match="replicas"):
            scale_model(registry, "m", replicas)
    with pytest.raises(Invalid, match="must not be less than replicas"):
        scale_model(registry, "m", 3, 2)
    assert registry.resolve("m").engine == options
