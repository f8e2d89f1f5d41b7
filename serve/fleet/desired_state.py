"""What should run according to the registry: engines, their adapters, and which engines are pinned."""

from collections.abc import Collection
from dataclasses import dataclass

from models.spec import ModelSpec


@dataclass(frozen=True)
class DesiredState:
    """What should run: an engine for each of `engines`, with the adapters in `adapters`.

    `pinned`: engines that are never stopped to make room.
    """

    engines: dict[str, ModelSpec]
    adapters: dict[str, dict[str, ModelSpec]]
    pinned: frozenset[str] = frozenset()


def desired_state(specs: list[ModelSpec], pinned: Collection[str] = ()) -> DesiredState:
    """Groups the registry's models into engines and their adapters. Hosted models need neither."""
    own = {spec.id: spec for spec in specs if spec.kind in ("base", "merged")}
    hanging: dict[str, dict[str, ModelSpec]] = {name: {} for name in own}
    for spec in specs:
        if spec.kind == "adapter" and spec.base in hanging:
            hanging[spec.base][spec.id] = spec
    return DesiredState(own, hanging, frozenset(pinned) & own.keys())
