"""The replicas of each model: how many are wanted, which run, and which adapters each of them should serve."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count, islice

from models.spec import ModelSpec
from serve.fleet.adapter_placement import AdapterPlacement
from serve.fleet.engine_states import BEST_FIRST
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
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._placement = AdapterPlacement()

    @property
    def several(self) -> bool:
        """Whether a model has more than one replica."""
        return any(len(numbers) > 1 for numbers in self._numbers.values())

    def update(self, specs: Sequence[ModelSpec], pinned: Collection[str]) -> None:
        """Reads the registry's models. Running engines get their new specs, which differ only in the replicas and
        fallbacks.
        """
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

    def follow_requests(self, spread: Iterable[str], used: Iterable[str], now: float) -> None:
        """Places adapters by the gateway's requests.

        Args:
            spread: adapters to place on one more replica of their base. used: adapters that were requested.
            now: a monotonic time in seconds.
        """
        for name in spread:
            self._placement.spread(name)
        copies = Counter(
            adapter
            for model_id, numbers in self._numbers.items()
            if len(numbers) > 1
            for engine in self.of(model_id)
            for adapter in engine.adapters
        )
        self._placement.follow_use(copies, {*spread, *used}, now)

    def of(self, model_id: str) -> list[ManagedEngine]:
        """A model's engines that are desired, by their numbers."""
        names = (replica_name(model_id, number) for number in self._numbers.get(model_id, (1,)))
        return [self._engines[name] for name in names if name in self._engines]

    def is_first(self, engine: ManagedEngine) -> bool:
        """Whether the engine is the first of its model's replicas, which is placed before all further ones."""
        return engine.number == self._numbers.get(engine.spec.id, (1,))[0]

    def adapters_of(self, engine: ManagedEngine) -> dict[str, ModelSpec]:
        """All adapters of the engine's model."""
        return self.desired.adapters.get(engine.spec.id, {})

    def adapters_wanted_on(self, engine: ManagedEngine) -> dict[str, ModelSpec]:
        """The adapters that this engine should serve: all of them if it is its model's only engine."""
        adapters, numbers = self.adapters_of(engine), self._numbers.get(engine.spec.id, (1,))
        if len(numbers) == 1:
            return adapters
        replicas = self.of(engine.spec.id)
        # Where none is ready, the adapter's state is that of one that will be, not of one that has failed.
        by_state = ([other.number for other in replicas if other.state == state] for state in BEST_FIRST[:-1])
        candidates = next(filter(None, by_state), numbers[:1])
        ready = {
            other.number: [name for name, adapter in other.adapters.items() if adapter.state == "ready"]
            for other in replicas
        }
        loaded = ready | {engine.number: engine.adapters}
        return self._placement.wanted_on(engine.number, adapters, candidates, loaded)

    def may_restart(self, engine: ManagedEngine) -> bool:
        """Whether all other running replicas of its model are ready, so that it can restart without a gap.

        A replica that waits for memory is not running, and may wait for long.
        """
        others = [other for other in self.of(engine.spec.id) if other is not engine and other.share is not None]
        return all(other.state == "ready" for other in others if not (other.lacks_memory or other.unplaced))

    def _count(self) -> None:
        counts = self._scaling.counts(self._specs)
        self._numbers = {name: self._choose_numbers(name, number) for name, number in counts.items()}
        self.desired = desired_state(self._specs, self._pinned, self._numbers)

    def _choose_numbers(self, model_id: str, wanted: int) -> tuple[int, ...]:
        """The numbers of a model's replicas: of the present ones, those in the best states stay."""
        present = sorted(self._numbers.get(model_id, ()), key=lambda number: (self._rank(model_id, number), number))
        free = (number for number in count(1) if number not in present)
        return tuple(sorted([*present[:wanted], *islice(free, max(wanted - len(present), 0))]))

    def _rank(self, model_id: str, number: int) -> int:
        engine = self._engines.get(replica_name(model_id, number))
        return BEST_FIRST.index(engine.state) if engine else len(BEST_FIRST)
