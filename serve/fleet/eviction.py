"""Which engine makes room for a requested one: a pure decision over what runs, what is pinned, and last use.

A function decides which engines fit beside each other (`serve.fleet.placement.fit` over `serve.fleet.memory`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve.fleet.machine import Fit


@dataclass(frozen=True)
class PlacedEngine:
    """An engine that has a share of the machine. `movable`: neither pinned nor so young that stopping it would be
    thrashing.

    `used`: when it last had a request, on a monotonic clock.
    """

    name: str
    movable: bool
    used: float
    pinned: bool = False


@dataclass(frozen=True)
class Decision:
    """`admit`: the shares with which the engine starts now. `drain`: engines to stop first. `wait`: why it does not
    start yet.

    `never`: why it would not fit even without the engines that are not pinned.
    """

    admit: Fit | None = None
    drain: tuple[str, ...] = ()
    wait: dict[str, str] = field(default_factory=dict)
    never: dict[str, str] = field(default_factory=dict)


def decide_placement(
    tenants: Sequence[PlacedEngine], leaving: bool, asking: str, fits: Callable[[Sequence[str], str], Fit]
) -> Decision:
    """Decides what to do for one requested engine.

    Args:
        leaving: whether an engine is already being stopped; no other one is until it is gone.
        fits: (engines that stay, new engine) → the plan, with the new engine in `refused` if it does not fit.
    """
    staying = [one.name for one in tenants]
    found = fits(staying, asking)
    if asking in found.shares:
        return Decision(admit=found)
    reason = found.refused.get(asking, "there is not enough memory")
    if leaving:
        return Decision(wait={asking: "waiting for memory: another model is finishing its requests"})
    order = sorted((one for one in tenants if one.movable), key=lambda one: one.used)
    for count in range(1, len(order) + 1):
        out = {one.name for one in order[:count]}
        if asking in fits([name for name in staying if name not in out], asking).shares:
            return Decision(drain=tuple(one.name for one in order[:count]))
    pinned = [one.name for one in tenants if one.pinned]
    alone = fits(pinned, asking)
    if asking in alone.shares:
        return Decision(wait={asking: f"waiting for memory: {reason}"})
    if asking in fits((), asking).shares:
        return Decision(
            wait={asking: (f"waiting for memory: {reason}; {', '.join(pinned)} is pinned: unpin or retire one")}
        )
    return Decision(never={asking: alone.refused.get(asking, reason)})
