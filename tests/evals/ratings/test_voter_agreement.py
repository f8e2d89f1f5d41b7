"""Voter agreement: alpha as in evalica and the textbook, kappas by hand, repeated votes, any order."""

from dataclasses import replace

import evalica
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.ratings.voter_agreement import agreement, alpha_of
from evals.votes.votes import from_rows

cast = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 3), st.sampled_from([1.0, 0.5, 0.0])), min_size=1, max_size=50
)


def votes(rows):
    """Rows of (unit, voter, score): each unit is a prompt of its own, between the same two models."""
    return from_rows([("a", "b", score, unit, voter) for unit, voter, score in rows], models=["a", "b"])


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(cast)
def test_alpha_is_evalicas(rows) -> None:
    first = {(unit, voter): score for unit, voter, score in reversed(rows)}  # the first vote of each counts
    table = pd.DataFrame(np.nan, index=range(4), columns=range(8))
    for (unit, voter), score in first.items():
        table.loc[voter, unit] = score
    mine = agreement(votes(rows)).alpha
    if mine is None:
        return
    assert mine == pytest.approx(evalica.alpha(table, distance="nominal").alpha, abs=1e-9)


def test_alpha_of_krippendorffs_example() -> None:
    # Four observers, twelve units, values 1 to 5, some missing: alpha is 0.743 ("Computing Krippendorff's
    # Alpha-Reliability", 2011, section C). Counts of each value for the units that two or more rated.
    table = [
        [3, 0, 0, 0, 0], [0, 3, 1, 0, 0], [0, 0, 4, 0, 0], [0, 0, 4, 0, 0], [0, 4, 0, 0, 0], [1, 1, 1, 1, 0],
        [0, 0, 0, 4, 0], [3, 1, 0, 0, 0], [0, 4, 0, 0, 0], [0, 0, 0, 0, 3], [2, 0, 0, 0, 0], [0, 0, 1, 0, 0],
    ]  # fmt: skip
    assert alpha_of(np.array(table)) == pytest.approx(0.743, abs=0.0005)


def test_full_agreement_is_one_and_chance_is_none() -> None:
    alike = [(unit, voter, float(unit % 2)) for unit in range(30) for voter in range(3)]
    agreed = agreement(votes(alike))
    assert (agreed.alpha, agreed.observed, agreed.decisive, agreed.units) == (1.0, 1.0, 1.0, 30)
    assert {pair.kappa for pair in agreed.kappas} == {1.0}
    rng = np.random.default_rng(0)
    blind = [(unit, voter, float(rng.integers(0, 3)) / 2) for unit in range(400) for voter in range(3)]
    agreed = agreement(votes(blind))
    assert abs(agreed.alpha or 1) < 0.08
    assert agreed.low is not None
    assert agreed.high is not None
    assert agreed.low < (agreed.alpha or 1) < agreed.high
    assert abs((agreed.observed or 1) - 1 / 3) < 0.06


def test_kappa_by_hand() -> None:
    # 20 units: both first 8, both second 6, they differ on 3 and 3: observed 0.7, chance (11² + 9²) / 20² = 0.505.
    pairs = [(1.0, 1.0)] * 8 + [(0.0, 0.0)] * 6 + [(1.0, 0.0)] * 3 + [(0.0, 1.0)] * 3
    rows = [(unit, voter, score) for unit, both in enumerate(pairs) for voter, score in enumerate(both)]
    (pair,) = agreement(votes(rows)).kappas
    assert (pair.shared, pair.agreed) == (20, pytest.approx(0.7))
    assert pair.kappa == pytest.approx((0.7 - 0.505) / 0.495)
    assert agreement(votes(rows), shared=21).kappas == ()


def test_repeated_votes() -> None:
    rows = [(unit, 0, 1.0) for unit in range(10)] + [(unit, 0, float(unit < 8)) for unit in range(10)]
    agreed = agreement(votes(rows))
    assert (agreed.repeats, agreed.self_consistency) == (10, 0.8)
    assert agreed.units == 0
    assert agreed.alpha is None


def test_one_vote_and_no_vote() -> None:
    for rows in ([], [(0, 0, 1.0)]):
        agreed = agreement(votes(rows))
        assert (agreed.alpha, agreed.low, agreed.observed, agreed.units, agreed.repeats) == (None, None, None, 0, 0)
        assert agreed.kappas == ()


@settings(max_examples=40, deadline=None)
@given(cast, st.randoms(use_true_random=False))
def test_the_order_of_voters_and_sides_does_not_matter(rows, chance) -> None:
    rows = list({(unit, voter): (unit, voter, score) for unit, voter, score in rows}.values())
    other = [(unit, voter, 1 - score) for unit, voter, score in rows]
    chance.shuffle(other)
    first, second = agreement(votes(rows), shared=1), agreement(votes(other), shared=1)
    assert first.alpha == (None if second.alpha is None else pytest.approx(second.alpha))
    assert first.units == second.units
    assert sorted(pair.agreed for pair in first.kappas) == pytest.approx(sorted(pair.agreed for pair in second.kappas))


def test_swapped_sides_change_nothing() -> None:
    # Two voters who agree on 20 prompts; every second vote names the models the other way round.
    rows = []
    for prompt in range(20):
        score = float(prompt % 2)
        rows += [("a", "b", score, prompt, "anna"), ("b", "a", 1 - score, prompt, "bert")]
    agreed = agreement(from_rows(rows))
    assert (agreed.alpha, agreed.fleiss, agreed.observed, agreed.units) == (1.0, 1.0, 1.0, 20)
    (pair,) = agreed.kappas
    assert (pair.first, pair.second, pair.kappa) == ("anna", "bert", 1.0)
    assert (pair.kappa_error or 0) > 0.05


def test_fleiss_example() -> None:
    # By hand: units (3, 0, 0), (1, 2, 0), (0, 1, 2) and (0, 0, 3) of three voters.
    counts = [(3, 0, 0), (1, 2, 0), (0, 1, 2), (0, 0, 3)]
    rows = [
        (unit, voter, score)
        for unit, row in enumerate(counts)
        for voter, score in enumerate(s for s, times in zip((0.0, 0.5, 1.0), row, strict=True) for _ in range(times))
    ]
    result = agreement(votes(rows))
    agreed, chance = (1 + 1 / 3 + 1 / 3 + 1) / 4, (4**2 + 3**2 + 5**2) / 12**2
    assert result.fleiss == pytest.approx((agreed - chance) / (1 - chance))
    assert (result.fleiss_error or 0) > 0.1
    assert (result.alpha_error or 0) > 0.1


def test_left_rate_is_of_the_side_not_of_the_model() -> None:
    data = from_rows([("a", "b", float(unit % 4 > 0), unit, unit % 5) for unit in range(40)])
    assert agreement(data).left_rate is None
    always_left = replace(data, first_left=data.score == 1)
    agreed = agreement(always_left)
    assert agreed.left_rate == 1.0
    assert (agreed.left_error or 0) > 0
    sides = replace(data, first_left=np.arange(40) // 4 % 2 == 0)
    assert agreement(sides).left_rate == pytest.approx(0.5)
