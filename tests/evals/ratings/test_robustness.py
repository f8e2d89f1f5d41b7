"""Votes that would reverse an order: as many as brute force finds, verified by refitting; none where none do."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evals.ratings.bradley_terry import rate
from evals.ratings.robustness import turn_rating
from evals.votes.votes import from_rows


def leads(rows, leader: str, rival: str) -> bool:
    rated = rate(from_rows(rows, models=["a", "b", "c"]), cluster=None)
    at = dict(zip(rated.models, rated.rating, strict=True))
    parts = dict(zip(rated.models, rated.part, strict=True))
    return parts[leader] != parts[rival] or at[leader] > at[rival] + 1e-6


def test_two_models_by_hand() -> None:
    rows = [("a", "b", float(i < 60), i, i) for i in range(100)] + [("a", "b", 0.5, i, i) for i in range(9)]
    turning = turn_rating(from_rows(rows), "a", "b")
    assert (turning.votes, turning.drop, turning.change) == (109, 20, 10)


def test_robustness_without_a_lead_or_a_connection() -> None:
    rows = [("a", "b", 1.0, 0, 0), ("a", "b", 0.0, 1, 1), ("c", "d", 1.0, 2, 2)]
    votes = from_rows(rows)
    assert turn_rating(votes, "a", "b").drop == 0
    turning = turn_rating(votes, "a", "c")
    assert (turning.drop, turning.change) == (None, None)


@settings(max_examples=25, deadline=None)
# Two votes together do here what the influence of each alone does not show.
@example([*[("ab", 0.0)] * 4, ("bc", 0.5), ("ac", 1.0), ("ac", 0.0)])
@given(
    st.lists(st.tuples(st.sampled_from(["ab", "bc", "ac"]), st.sampled_from([1.0, 0.5, 0.0])), min_size=4, max_size=11)
)
@pytest.mark.long
def test_brute_force_finds_no_fewer_votes(drawn) -> None:
    rows = [(pair[0], pair[1], score, i, i) for i, (pair, score) in enumerate(drawn)]
    rated = rate(from_rows(rows, models=["a", "b", "c"]), cluster=None)
    order = np.argsort(-rated.rating)
    leader, rival = (rated.models[i] for i in order[:2])
    if not leads(rows, leader, rival) or not rated.connected or rated.corrected.any():
        return
    turning = turn_rating(from_rows(rows, models=["a", "b", "c"]), leader, rival)
    fewest = next(
        (
            k
            for k in range(1, 4)
            for gone in combinations(range(len(rows)), k)
            if not leads([row for i, row in enumerate(rows) if i not in gone], leader, rival)
        ),
        None,
    )
    if turning.drop is not None:
        assert turning.drop == fewest if fewest else turning.drop > 3


def test_votes_between_others_count_too() -> None:
    # a and b were never compared: only their votes against c order them.
    rows = [("a", "c", float(i % 10 < 7), i, i) for i in range(100)]
    rows += [("b", "c", float(i % 10 < 6), i, i) for i in range(100)]
    turning = turn_rating(from_rows(rows), "a", "b")
    assert turning.change == 10
    assert turning.drop is not None
    assert 12 <= turning.drop <= 17


@pytest.mark.parametrize("n", [20_000])
def test_many_votes_are_quick(n: int) -> None:
    rng = np.random.default_rng(0)
    rows = [("a", "b", float(rng.random() < 0.52), i, i) for i in range(n)]
    turning = turn_rating(from_rows(rows), "a", "b")
    wins = sum(row[2] for row in rows)
    assert turning.drop == abs(2 * wins - n)
