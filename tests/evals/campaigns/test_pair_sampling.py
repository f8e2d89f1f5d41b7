"""Pairs of models: drawn evenly for few, by information for many, with the true probability; random sides."""

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


def test_few_models_are_paired_evenly() -> None:
    counts = {("a", "b"): PairCount(3), ("a", "c"): PairCount(2)}
    draws = drawn(["a", "b", "c"], counts, 50)
    assert {(pair.models, pair.probability) for pair in draws} == {(("b", "c"), 1.0)}
    first = drawn(["a", "b", "c"], {}, 900)
    assert all(pair.probability == pytest.approx(1 / 3) for pair in first)
    assert all(250 < times < 350 for times in first.values())


@pytest.mark.long
def test_many_models_are_paired_by_information() -> None:
    counts = {pair: PairCount(40, 40, 20.0) for pair in PAIRS if "f" not in pair}
    draws = drawn(SIX, counts)
    new = sum(times for pair, times in draws.items() if "f" in pair.models)
    assert new / 4000 > 0.6, "5 of 15 pairs have the model that nobody has seen"
    assert len(draws) == 15


@pytest.mark.long
def test_a_clear_result_is_compared_less() -> None:
    counts = {pair: PairCount(40, 40, 20.0) for pair in PAIRS}
    counts |= {pair: PairCount(40, 40, 0.5) for pair in PAIRS if "f" in pair}
    probability = {pair.models: pair.probability for pair in drawn(SIX, counts)}
    assert min(probability[pair] for pair in PAIRS if "f" not in pair) > 1.2 * probability["a", "f"]
    assert min(probability.values()) >= 0.1 / 15


@pytest.mark.long
def test_the_stored_probability_is_the_true_one() -> None:
    counts = {pair: PairCount(5 * i, 5 * i, 2.0 * i) for i, pair in enumerate(PAIRS)}
    draws = drawn(SIX, counts, 4_000)
    assert sum(pair.probability for pair in draws) == pytest.approx(1.0)
    for pair, times in draws.items():
        assert times / 4_000 == pytest.approx(pair.probability, abs=0.025)


def test_two_of_every_four_sides_are_swapped() -> None:
    chance, flips = random.Random(3), []
    for _ in range(400):
        flips.append(draw_side(flips, chance, balanced=True))
    blocks = Counter(tuple(flips[start : start + 4]) for start in range(0, 400, 4))
    assert {sum(block) for block in blocks} == {2}
    assert len(blocks) == 6
    free = [draw_side([True, True, False], chance, balanced=False) for _ in range(400)]
    assert 150 < sum(free) < 250, "a reader of the names learns nothing about the next side"
