"""Prediction-powered means: against ppi-python's own numbers, against algebra, and under random data."""

from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scipy.stats import t as student

from evals.judges.ppi import powered_if_enough, powered_mean

_HUMAN = np.array([1, 0, 1, 1, 0.5, 0, 1, 0] * 5, dtype=float)
_JUDGE = np.clip(0.15 + 0.6 * _HUMAN + 0.2 * np.sin(np.arange(40) * 1.7), 0, 1)
_ALONE = np.clip(0.5 + 0.35 * np.cos(np.arange(300) * 0.9), 0, 1)

values = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=2, max_size=40)


@pytest.mark.parametrize(
    ("weight", "mean", "low", "high"),
    [
        # ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci of the arrays above, alpha 0.05, lam as given.
        (1.0, 0.5689317613181404, 0.4929741504170512, 0.6448893722192295),
        (0.5, 0.5657158806590702, 0.4624893633474263, 0.6689423979707141),
    ],
)
def test_estimates_match_ppi_python(weight: float, mean: float, low: float, high: float) -> None:
    result = powered_mean(_HUMAN, _JUDGE, _ALONE, weight=weight)
    assert result.mean == pytest.approx(mean, abs=1e-12)
    # Theirs takes the normal quantile and divides by n; ours Student's and n - 1, which few votes need.
    error = (result.high - result.mean) / student.ppf(0.975, 39)
    people = 39 / 40
    plain = np.var(_HUMAN - weight * _JUDGE) / 40
    alone = weight**2 * np.var(_ALONE) / 300
    assert error**2 == pytest.approx(plain / people + alone * 300 / 299)
    assert norm.ppf(0.975) * sqrt(plain + alone) == pytest.approx((high - low) / 2, abs=1e-9)


def test_the_weight_makes_the_interval_least() -> None:
    judge = np.clip(0.3 + 0.2 * _HUMAN + 0.3 * np.sin(np.arange(40) * 1.7), 0, 1)
    result = powered_mean(_HUMAN, judge, _ALONE)
    assert 0 < result.weight < 1
    widths = [
        (narrower := powered_mean(_HUMAN, judge, _ALONE, weight=w)).high - narrower.low for w in np.linspace(0, 1, 21)
    ]
    assert result.high - result.low <= min(widths) + 1e-12
    assert 1 < result.times <= 1 / (1 - result.correlation**2) + 0.05


def test_an_uninformative_judge_changes_nothing() -> None:
    result = powered_mean(_HUMAN, np.ones(40), np.zeros(300))
    assert (result.weight, result.mean, result.times) == (0.0, result.people, 1.0)
    assert (result.low, result.high) == (result.people_low, result.people_high)


def test_a_judge_that_errs_to_one_side_is_corrected() -> None:
    rng = np.random.default_rng(0)
    human = rng.random(2_000) < 0.4
    judge = np.where(human, 1.0, rng.random(2_000) < 0.5)
    result = powered_mean(human[:200], judge[:200], judge[200:])
    assert judge.mean() > 0.65
    assert result.low < 0.4 < result.high


def test_clusters_widen_and_too_few_say_nothing() -> None:
    prompts = np.arange(40) // 4
    assert (
        powered_mean(np.sort(_HUMAN), _JUDGE, _ALONE, prompts.tolist()).high
        > powered_mean(np.sort(_HUMAN), _JUDGE, _ALONE).high
    )
    result = powered_mean([1.0, 0.0], [1.0, 0.0], [1.0], ["p", "p"], ["q"])
    assert (result.low, result.high) == (-inf, inf)
    assert powered_if_enough([1.0] * 19, [1.0] * 19, [1.0] * 30, range(19), range(30)) is None
    assert powered_if_enough([1.0] * 20, [1.0] * 20, [1.0] * 30, range(20), range(30)) is not None


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same length"):
        powered_mean([], [], [1.0])
    with pytest.raises(ValueError, match="one cluster"):
        powered_mean([1.0], [1.0], [], ["a", "b"])


@pytest.mark.long
@given(values, values, st.randoms(use_true_random=False))
def test_the_order_of_items_and_the_side_do_not_matter(human: list[float], alone: list[float], shuffle) -> None:
    judge = [1 - value if i % 3 == 0 else value for i, value in enumerate(human)]
    result = powered_mean(human, judge, alone)
    order = list(range(len(human)))
    shuffle.shuffle(order)
    again = powered_mean([human[i] for i in order], [judge[i] for i in order], alone)
    assert again.mean == pytest.approx(result.mean)
    assert again.high == pytest.approx(result.high)
    turned = powered_mean([1 - y for y in human], [1 - f for f in judge], [1 - g for g in alone])
    assert turned.mean == pytest.approx(1 - result.mean)
    assert turned.high == pytest.approx(1 - result.low)
    assert result.low <= result.mean <= result.high
    assert result.high - result.low <= result.people_high - result.people_low + 1e-9
