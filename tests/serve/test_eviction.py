"""Which engines make room: the least recently used first, no pinned and no young one, one after another."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.fleet.placement import Fit, PlacedEngine, Share, decide_placement

SHARE = Share("cpu")


def room_for(most: int):
    """Fits while at most `most` run."""

    def fits(staying: Sequence[str], newcomer: str) -> Fit:
        if len(staying) + 1 <= most:
            return Fit(dict.fromkeys((*staying, newcomer), SHARE))
        return Fit(dict.fromkeys(staying, SHARE), {newcomer: f"{newcomer} needs more"})

    return fits


def tenant(name: str, used: float = 0.0, *, movable: bool = True, pinned: bool = False) -> PlacedEngine:
    return PlacedEngine(name, movable and not pinned, used, pinned)


def test_an_engine_that_fits_is_admitted() -> None:
    decision = decide_placement([tenant("a")], False, "new", room_for(2))
    assert decision.admit is not None
    assert set(decision.admit.shares) == {"a", "new"}


def test_the_least_recently_used_goes() -> None:
    tenants = [tenant("a", 5), tenant("b", 3), tenant("c", 9)]
    assert decide_placement(tenants, False, "new", room_for(3)).drain == ("b",)
    assert decide_placement(tenants, False, "new", room_for(2)).drain == ("b", "a")


def test_nobody_else_goes_while_somebody_is_going() -> None:
    decision = decide_placement([tenant("a"), tenant("b")], True, "new", room_for(2))
    assert (decision.drain, set(decision.wait)) == ((), {"new"})


def test_the_young_are_waited_for_and_the_pinned_are_named() -> None:
    young = decide_placement([tenant("a", movable=False)], False, "new", room_for(1))
    assert young.wait == {"new": "waiting for memory: new needs more"}
    pinned = decide_placement([tenant("a", pinned=True)], False, "new", room_for(1))
    assert "a is pinned: unpin or retire one" in pinned.wait["new"]
    assert decide_placement([tenant("a")], False, "new", room_for(0)).never == {"new": "new needs more"}


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.booleans()), max_size=6), st.integers(0, 7))
@pytest.mark.long
def test_no_more_go_than_are_needed_and_never_one_that_may_not(engines: list, most: int) -> None:
    tenants = [tenant(f"t{i}", used, movable=movable, pinned=pin) for i, (used, movable, pin) in enumerate(engines)]
    decision = decide_placement(tenants, False, "new", room_for(most))
    gone = {engine.name for engine in tenants if engine.name in decision.drain}
    assert all(engine.movable for engine in tenants if engine.name in gone)
    if gone:
        assert len(tenants) - len(gone) + 1 == most
    assert bool(decision.admit) + bool(decision.drain) + bool(decision.wait) + bool(decision.never) == 1
