"""A against B: the four states, the e-value that may be read at any time, and how many votes are still needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.ratings.verdict import E_STOP, compare, log_mixture, votes_for_power
from evals.votes.votes import Votes, from_rows


def votes(wins: int, losses: int, ties: int = 0, prompts: int = 40, voters: int = 10, seed: int = 0) -> Votes:
    scores = np.random.default_rng(seed).permutation([1.0] * wins + [0.0] * losses + [0.5] * ties)
    return from_rows(
        [("a", "b", score, i % prompts, i // prompts % voters) for i, score in enumerate(scores)], models=["a", "b"]
    )


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (votes(140, 60), "better"),
        (votes(60, 140), "worse"),
        (votes(600, 600, 800, prompts=100, voters=100), "no difference worth having"),
        (votes(55, 45), "not enough evidence"),
        (votes(29, 0), "not enough evidence"),
        (votes(300, 0, prompts=19, voters=100), "not enough evidence"),
    ],
)
def test_states(data: Votes, state: str) -> None:
    found = compare(data, "a", "b")
    assert found.state == state
    assert (found.votes_needed == 0) == (state != "not enough evidence")


def test_the_other_side_is_the_mirror() -> None:
    one, other = compare(votes(70, 40, 10), "a", "b"), compare(votes(70, 40, 10), "b", "a")
    assert one.win_rate == pytest.approx(1 - (other.win_rate or 0))
    assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert {one.state, other.state} == {"not enough evidence"} or {one.state, other.state} == {"better", "worse"}


def test_votes_for_power_are_the_published_ones() -> None:
    assert [votes_for_power(rate) for rate in (0.55, 0.6, 0.65, 0.7)] == [783, 194, 85, 47]


def test_no_vote_and_unknown_models() -> None:
    found = compare(from_rows([]), "a", "b")
    assert found.win_rate is None
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.votes_needed == 194
    assert "Nobody" in found.text


def test_votes_needed_are_about_right() -> None:
    few = compare(votes(36, 24), "a", "b")
    assert few.state == "not enough evidence"
    n = 60 + few.votes_needed
    assert compare(votes(round(n * 0.6), n - round(n * 0.6)), "a", "b").state == "better"


def test_asking_the_same_person_again_is_no_new_evidence() -> None:
    rows = [("a", "b", 1.0, prompt, 0) for prompt in range(20)]
    found = compare(from_rows(rows * 10), "a", "b")
    assert found.state == "not enough evidence"
    assert found.votes_needed >= 10  # 30 that count are the least, and 20 have been cast


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_the_mixture_is_symmetric_and_fair(wins: int, losses: int) -> None:
    assert log_mixture(wins, losses) == pytest.approx(log_mixture(losses, wins))
    # Its expectation under the fair coin stays 1: what the next vote adds is what it takes.
    now = log_mixture(wins, losses)
    after = 0.5 * (np.exp(log_mixture(wins + 1, losses) - now) + np.exp(log_mixture(wins, losses + 1) - now))
    assert after == pytest.approx(1.0)


@pytest.mark.parametrize("taste", [0.0, 1.0])
def test_reading_after_every_vote_is_seldom_wrong(taste: float) -> None:
    rng = np.random.default_rng(5)
    wrong, runs = 0, 40
    for _ in range(runs):
        chance = 1 / (1 + np.exp(-rng.normal(0, taste, 25)))
        rows = [("a", "b", float(rng.random() < chance[i % 25]), i % 25, i) for i in range(300)]
        for n in range(30, 301, 15):
            if compare(from_rows(rows[:n]), "a", "b").state in ("better", "worse"):
                wrong += 1
                break
    assert wrong / runs <= 0.1  # 5 % is promised; 40 runs leave room for chance
    assert E_STOP == 20
