"""How many replicas of each model should run: by its options, and between two bounds by its load."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.spec import ModelSpec

# How long a smaller number must be enough before a replica stops, because a start costs more than an idle engine.
SCALE_DOWN_S = 60.0


@dataclass
class _Scale:
    """A model's present number of replicas, and since when fewer would be enough."""

    count: int
    lower_since: float | None = None


class ReplicaScaling:
    """The present number of replicas of each model. It starts nothing and reads no clock."""

    def __init__(self) -> None:
        self._scales: dict[str, _Scale] = {}

    def counts(self, specs: Sequence[ModelSpec]) -> dict[str, int]:
        """Model id → number of replicas, for models with engines; a new model starts with its lower bound."""
        scales = {}
        for spec in specs:
            if spec.kind not in ("base", "merged"):
                continue
            options = spec.engine
            scale = self._scales.get(spec.id) or _Scale(options.replicas)
            scale.count = min(max(scale.count, options.replicas), options.most_replicas)
            scales[spec.id] = scale
        self._scales = scales
        return {name: scale.count for name, scale in scales.items()}

    def follow_load(
        self, specs: Mapping[str, ModelSpec], running: Mapping[str, Mapping[int, float]], now: float
    ) -> bool:
        """Adapts the numbers to the load; returns whether one has changed.

        Args:
            specs: model id → spec, of models with engines.
            running: model id → number of a ready replica → its running and waiting requests.
            now: a monotonic time in seconds.
        """
        changed = False
        for name, spec in specs.items():
            options, scale = spec.engine, self._scales.get(name)
            if scale is None or options.most_replicas == options.replicas:
                continue
            loads = running.get(name, {})
            enough = min(
                max(math.ceil(sum(loads.values()) / options.target_running), options.replicas), options.most_replicas
            )
            if enough >= scale.count:
                scale.lower_since = None
                # The load of replicas that are still starting is not known yet.
                if enough > scale.count <= len(loads):
                    scale.count, changed = enough, True
            elif loads and len(loads) < scale.count - 1:
                scale.lower_since = None  # those that would stay are not all ready
            elif scale.lower_since is None:
                scale.lower_since = now
            elif now - scale.lower_since > SCALE_DOWN_S:
                scale.count, scale.lower_since, changed = scale.count - 1, None, True
        return changed
