"""Who runs while there is not room for all: pure decisions over what runs, who asks, and who was used last.

Whether engines fit beside each other is told by a function (`serve.fleet.machine.fit` over `serve.fleet.memory`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from serve.fleet.machine import Fit


@dataclass(frozen=True)
class PlacedEngine:
    """An engine that has a place. `movable`: not pinned, and not so young that moving it out would be thrashing.

    `used`: when it was last asked for something, on a clock that never goes back.
    """

    name: str
    movable: bool
    used: float
    pinned: bool = False


@dataclass(frozen=True)
class Decision:
    """`admit`: with which shares who starts now. `drain`: who goes first. `wait`: why the rest do not start yet.

    `never`: why somebody would not fit even if all but the pinned ones went.
    """

    admit: Fit | None = None
    drain: tuple[str, ...] = ()
    wait: dict[str, str] = field(default_factory=dict)
    never: dict[str, str] = field(default_factory=dict)


def decide_placement(
    tenants: Sequence[PlacedEngine], leaving: bool, asking: str, fits: Callable[[Sequence[str], str], Fit]
) -> Decision:
    """What to do for one engine that is asked for.

    Args:
        leaving: whether somebody is on the way out already; then nobody else is sent after him before he is gone.
        fits: (who stays, who comes) → the plan; the newcomer is in `refused` where it does not fit.
    """
    staying = [one.name for one in tenants]
    found = fits(staying, asking)
    if asking in found.shares:
        return Decision(admit=found)
    reason = found.refused.get(asking, "there is no room")
    if leaving:
        return Decision(wait={asking: "waits for room: another model finishes its requests"})
    order = sorted((one for one in tenants if one.movable), key=lambda one: one.used)
    for count in range(1, len(order) + 1):
        out = {one.name for one in order[:count]}
        if asking in fits([name for name in staying if name not in out], asking).shares:
            return Decision(drain=tuple(one.name for one in order[:count]))
    pinned = [one.name for one in tenants if one.pinned]
    alone = fits(pinned, asking)
    if asking in alone.shares:
        return Decision(wait={asking: f"waits for room: {reason}"})
    if asking in fits((), asking).shares:
        return Decision(wait={asking: f"waits for room: {reason}; {', '.join(pinned)} is pinned: unpin or retire one"})
    return Decision(never={asking: alone.refused.get(asking, reason)})
