"""Worthless, padded and swapped answers: the questions to the judge, and which verdicts pass."""

from evals.judges.answer_pairs import AnswerPair
from evals.judges.canaries import KINDS, PAIRWISE_CALLS, pairwise_results, pairwise_trials
from evals.judges.judge import Judgment
from evals.judges.report import Canary
from evals.votes.prompts import Prompt
from models.chat.messages import Message


def pair(first: str, second: str) -> AnswerPair:
    return AnswerPair("p", Prompt("q", (Message(role="user", content="Why?"),), None, (), False, "t"), first, second)


def test_each_kind_is_set_in_both_orders_with_the_longer_real_answer() -> None:
    trials = pairwise_trials([pair("short", "longer"), pair("", " "), pair("x", "yy"), pair("never", "asked")])
    assert len(trials) == PAIRWISE_CALLS
    assert {trial.real for trial in trials} == {"longer", "yy"}
    for kind in KINDS:
        orders = [trial for trial in trials if trial.kind == kind and trial.real == "yy"]
        assert [trial.real_first for trial in orders] == [True, False]
        assert orders[0].answers == tuple(reversed(orders[1].answers))
    padded = next(trial for trial in trials if trial.kind == "padded")
    assert padded.answers[1].startswith("longer ")
    assert padded.answers[1].count("longer") == 2


def test_a_worthless_answer_must_lose_and_a_padded_one_must_not_win() -> None:
    trials = pairwise_trials([pair("x", "yy")])
    ties = pairwise_results(trials, [Judgment(0, "")] * len(trials))
    assert ties == (Canary("empty", 2, 0), Canary("constant", 2, 0), Canary("injecting", 2, 0), Canary("padded", 2, 2))
    right = [Judgment(1 if trial.real_first else 2, "") for trial in trials]
    assert all(canary.passed and canary.lost == 2 for canary in pairwise_results(trials, right))
    nothing = pairwise_results(trials, [None, Judgment(None, "hm")] * len(KINDS))
    assert not any(canary.passed for canary in nothing)
    assert pairwise_results([], []) == ()


def test_how_often_is_often_enough() -> None:
    assert not Canary("injecting", 4, 3).passed
    assert Canary("padded", 4, 2).passed
    assert not Canary("padded", 4, 1).passed
    assert Canary("swapped", 12, 8).passed
    assert not Canary("swapped", 12, 7).passed
    assert Canary("swapped", 12, 7).outcome == "the order of the answers changed its verdict on 5 of 12 pairs"
