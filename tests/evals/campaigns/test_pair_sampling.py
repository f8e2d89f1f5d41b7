"""Which models meet: evenly for few, by information for many, with the true probability; sides at random."""

import random
from collections import Counter
from itertools import combinations

import pytest

from evals.campaigns.pair_sampling import PairCount, draw_models, draw_side

SIX = list("abcdef")
PAIRS = list(combinations(SIX, 2))


def drawn(models, counts, times=4000):
    pairs, chance = list(combinations(models, 2)), random.Random(1)
    return Counter(draw_models(models, pairs, counts, chance) for _ in range(times))


def test_few_models_meet_evenly() -> None:
    counts = {("a", "b"): PairCount(3), ("a", "c"): PairCount(2)}
    found = drawn(["a", "b", "c"], counts, 50)
    assert {(one.models, one.probability) for one in found} == {(("b", "c"), 1.0)}
    first = drawn(["a", "b", "c"], {}, 900)
    assert all(one.probability == pytest.approx(1 / 3) for one in first)
    assert all(250 < times < 350 for times in first.values())


@pytest.mark.long
def test_many_models_meet_where_a_vote_tells_most() -> None:
    counts = {pair: PairCount(40, 40, 20.0) for pair in PAIRS if "f" not in pair}
    found = drawn(SIX, counts)
    new = sum(times for one, times in found.items() if "f" in one.models)
    assert new / 4000 > 0.6, "5 of 15 pairs have the model that nobody has seen"
    assert len(found) == 15


@pytest.mark.long
def test_a_foregone_result_is_compared_less() -> None:
    counts = {pair: PairCount(40, 40, 20.0) for pair in PAIRS}
    counts |= {pair: PairCount(40, 40, 0.5) for pair in PAIRS if "f" in pair}
    probability = {one.models: one.probability for one in drawn(SIX, counts)}
    assert min(probability[pair] for pair in PAIRS if "f" not in pair) > 1.2 * probability["a", "f"]
    assert min(probability.values()) >= 0.1 / 15


@pytest.mark.long
def test_the_stored_probability_is_the_true_one() -> None:
    counts = {pair: PairCount(5 * i, 5 * i, 2.0 * i) for i, pair in enumerate(PAIRS)}
    found = drawn(SIX, counts, 4_000)
    assert sum(one.probability for one in found) == pytest.approx(1.0)
    for one, times in found.items():
        assert times / 4_000 == pytest.approx(one.probability, abs=0.025)


def test_two_of_every_four_sides_are_swapped() -> None:
    chance, flips = random.Random(3), []
    for _ in range(400):
        flips.append(draw_side(flips, chance, balanced=True))
    blocks = Counter(tuple(flips[start : start + 4]) for start in range(0, 400, 4))
    assert {sum(block) for block in blocks} == {2}
    assert len(blocks) == 6
    free = [draw_side([True, True, False], chance, balanced=False) for _ in range(400)]
    assert 150 < sum(free) < 250, "a reader of the names learns nothing about the next side"
