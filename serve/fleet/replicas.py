"""The replicas of each model: how many are wanted, which run, and which adapters each of them should serve."""

from collections.abc import Collection, Iterable, Mapping, Sequence

from models.spec import ModelSpec
from serve.fleet.adapter_placement import AdapterPlacement
from serve.fleet.managed_engine import ManagedEngine
from serve.fleet.placement import DesiredState, desired_state
from serve.fleet.replica_names import replica_name
from serve.fleet.replica_scaling import ReplicaScaling


class Replicas:
    """The desired engines, and the supervisor's `engines` by model."""

    def __init__(self, engines: Mapping[str, ManagedEngine]) -> None:
        self.desired = DesiredState({}, {})
        self._engines = engines
        self._specs: Sequence[ModelSpec] = ()
        self._pinned: Collection[str] = ()
        self._scaling = ReplicaScaling()
        self._counts: dict[str, int] = {}
        self._placement = AdapterPlacement()

    @property
    def several(self) -> bool:
        """Whether a model has more than one replica."""
        return any(count > 1 for count in self._counts.values())

    def update(self, specs: Sequence[ModelSpec], pinned: Collection[str]) -> None:
        """Reads the registry's models. Running engines get their new specs, which differ only in the replicas."""
        self._specs, self._pinned = specs, pinned
        self._count()
        for name, engine in self._engines.items():
            engine.spec = self.desired.engines.get(name, engine.spec)

    def follow_load(self, now: float) -> None:
        """Adapts the numbers of replicas to the load. `now`: a monotonic time in seconds."""
        specs = {spec.id: spec for spec in self._specs if spec.kind in ("base", "merged")}
        loads = {
            name: {engine.number: engine.load for engine in self.of(name) if engine.state == "ready"} for name in specs
        }
        if self._scaling.follow_load(specs, loads, now):
            self._count()

    def spread(self, adapters: Iterable[str]) -> None:
        """Places each of the adapters on one more replica of its base."""
        for name in adapters:
            self._placement.spread(name)

    def of(self, model_id: str) -> list[ManagedEngine]:
        """A model's engines that are desired, by their numbers."""
        names = (replica_name(model_id, number) for number in range(1, self._counts.get(model_id, 1) + 1))
        return [self._engines[name] for name in names if name in self._engines]

    def adapters_of(self, engine: ManagedEngine) -> dict[str, ModelSpec]:
        """All adapters of the engine's model."""
        return self.desired.adapters.get(engine.spec.id, {})

    def adapters_wanted_on(self, engine: ManagedEngine) -> dict[str, ModelSpec]:
        """The adapters that this engine should serve: all of them if it is its model's only engine."""
        adapters = self.adapters_of(engine)
        if self._counts.get(engine.spec.id, 1) == 1:
            return adapters
        replicas = self.of(engine.spec.id)
        numbers = (
            [other.number for other in replicas if other.state == state] for state in ("ready", "starting", "stopped")
        )
        # Where none is ready, the adapter's state is that of one that will be, not of one that has failed.
        return self._placement.wanted_on(engine.number, adapters, next(filter(None, numbers), ()), engine.adapters)

    def may_restart(self, engine: ManagedEngine) -> bool:
        """Whether all other running replicas of its model are ready, so that it can restart without a gap."""
        others = [other for other in self.of(engine.spec.id) if other is not engine and other.share is not None]
        return all(other.state == "ready" for other in others)

    def _count(self) -> None:
        self._counts = self._scaling.counts(self._specs)
        self.desired = desired_state(self._specs, self._pinned, self._counts)
