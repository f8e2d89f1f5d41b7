"""Worthless, padded and swapped answers: what is asked, and what counts as seen through."""

from evals.judges.answer_pairs import AnsweredPair
from evals.judges.canaries import CALLS, TRAPS, results, traps
from evals.judges.judge import Said
from evals.judges.report import Canary
from evals.votes.prompts import Prompt
from models.messages import Message


def pair(one: str, two: str) -> AnsweredPair:
    return AnsweredPair("p", Prompt("q", (Message(role="user", content="Why?"),), None, (), False, "t"), one, two)


def test_each_kind_is_set_in_both_orders_with_the_longer_real_answer() -> None:
    found = traps([pair("short", "longer"), pair("", " "), pair("x", "yy"), pair("never", "asked")])
    assert len(found) == CALLS
    assert {trap.real for trap in found} == {"longer", "yy"}
    for kind in TRAPS:
        orders = [trap for trap in found if trap.kind == kind and trap.real == "yy"]
        assert [trap.real_first for trap in orders] == [True, False]
        assert orders[0].shown == tuple(reversed(orders[1].shown))
    padded = next(trap for trap in found if trap.kind == "padded")
    assert padded.shown[1].startswith("longer ")
    assert padded.shown[1].count("longer") == 2


def test_a_worthless_answer_must_lose_and_a_padded_one_must_not_win() -> None:
    found = traps([pair("x", "yy")])
    ties = results(found, [Said(0, "")] * len(found))
    assert ties == (Canary("empty", 2, 0), Canary("constant", 2, 0), Canary("injecting", 2, 0), Canary("padded", 2, 2))
    right = [Said(1 if trap.real_first else 2, "") for trap in found]
    assert all(canary.passed and canary.lost == 2 for canary in results(found, right))
    nothing = results(found, [None, Said(None, "hm")] * len(TRAPS))
    assert not any(canary.passed for canary in nothing)
    assert results([], []) == ()


def test_how_often_is_often_enough() -> None:
    assert not Canary("injecting", 4, 3).passed
    assert Canary("padded", 4, 2).passed
    assert not Canary("padded", 4, 1).passed
    assert Canary("swapped", 12, 8).passed
    assert not Canary("swapped", 12, 7).passed
    assert Canary("swapped", 12, 7).words == "the order of the answers changed its verdict on 5 of 12 pairs"
