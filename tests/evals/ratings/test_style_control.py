"""Style control: counts Markdown, removes a length bias, keeps the raw rating where style has no effect; mirrored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.ratings.bradley_terry import ELO, rate
from evals.ratings.style_control import control, style_difference, style_of
from evals.votes.votes import Votes, from_rows


def world(n: int = 4_000, seed: int = 0, taste: float = 1.5) -> tuple[Votes, np.ndarray]:
    """Three models of equal worth; "long" writes more, and voters like what is longer."""
    rng = np.random.default_rng(seed)
    names = ("long", "mid", "short")
    first = rng.integers(0, 3, n)
    second = (first + rng.integers(1, 3, n)) % 3
    words = np.array([220, 120, 80])
    lengths = [np.maximum(words[side] + rng.normal(0, 50, n), 5) for side in (first, second)]
    x = np.zeros((n, 4))
    x[:, 0] = style_difference(lengths[0], lengths[1])
    won = rng.random(n) < 1 / (1 + np.exp(-taste * x[:, 0] / x[:, 0].std()))
    return Votes(names, first, second, won.astype(float), np.arange(n) % 200, np.arange(n) % 50), x


def test_what_is_counted() -> None:
    text = "# Title\n\nSome **bold** and __more__.\n\n- one\n- two\n1. three\n\n```\n# code, **no**\n- no\n```\n"
    tokens, headers, lists, bold = style_of(text)
    assert (headers, lists, bold) == (1, 3, 2)
    assert tokens > 20
    assert style_of("") == (0, 0, 0, 0)
    assert style_of("#nothashtag *one* 2.5 - a") == (10, 0, 0, 0)


def test_the_difference_is_bounded_and_antisymmetric() -> None:
    a, b = np.array([300, 2, 0, 5]), np.array([100, 0, 0, 9])
    assert style_difference(a, b) == pytest.approx([200 / 401, 2 / 3, 0, -4 / 15])
    assert style_difference(a, b) == pytest.approx(-style_difference(b, a))


def test_a_bias_for_length_is_taken_out() -> None:
    votes, x = world()
    raw, controlled = rate(votes), control(votes, x)
    assert raw.rating.max() - raw.rating.min() > 200
    assert controlled.rating.max() - controlled.rating.min() < 50
    assert ((controlled.low <= 1000) & (controlled.high >= 1000)).all()
    assert controlled.effect[0] == pytest.approx(1.5 * ELO, rel=0.1)
    assert controlled.effect_low[0] > 0
    assert controlled.effect[1:] == pytest.approx([0, 0, 0])


def test_without_style_it_is_the_raw_rating() -> None:
    votes, x = world(800)
    controlled = control(votes, np.zeros_like(x), cluster=None)
    raw = rate(votes, cluster=None)
    assert controlled.rating == pytest.approx(raw.rating, abs=1e-3)
    assert controlled.high - controlled.low == pytest.approx(raw.high - raw.low, rel=0.01)


def test_votes_on_unknown_texts_are_left_out_and_counted() -> None:
    votes, x = world(600)
    x[:100] = np.nan
    assert control(votes, x).votes == 500


@pytest.mark.long
def test_the_interval_holds_the_truth() -> None:
    held = []
    for seed in range(60):
        votes, x = world(400, seed=seed)
        rated = control(votes, x)
        held.append(((rated.low <= 1000) & (rated.high >= 1000)).mean())
    assert 0.9 <= np.mean(held) <= 1.0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ab", "bc", "ac"]), st.sampled_from([1.0, 0.5, 0.0]), st.floats(-0.9, 0.9), st.booleans()
        ),
        min_size=0,
        max_size=30,
    )
)
def test_sides_do_not_matter_and_numbers_are_finite(drawn) -> None:
    x = np.array([[edge, 0, edge / 2, 0] for _, _, edge, _ in drawn]).reshape(-1, 4)
    rows = [(pair[0], pair[1], score, i % 5, i) for i, (pair, score, _, _) in enumerate(drawn)]
    turned = np.array([flip for *_, flip in drawn], dtype=bool)
    swapped = [(b, a, 1 - s, p, v) if flip else (a, b, s, p, v) for (a, b, s, p, v), flip in zip(rows, turned)]  # noqa: B905 -- the same length
    models = ["a", "b", "c"]
    rated = control(from_rows(rows, models), x)
    other = control(from_rows(swapped, models), np.where(turned[:, None], -x, x))
    assert np.isfinite(rated.rating).all()
    assert rated.rating == pytest.approx(other.rating, abs=1e-3)
    assert rated.effect == pytest.approx(other.effect, abs=1e-3)
    assert (rated.low <= rated.rating).all()
