"""Bradley–Terry: against evalica and published scores, under every symmetry it must have, and at its edges."""

import csv
from pathlib import Path

import evalica
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ratings import VoteSimulation, coverage
from evals.ratings.bradley_terry import ELO, MEAN, count, rate
from evals.votes.votes import Votes, from_columns, from_rows

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "pairwise"
WINNERS = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
SCORES = {"left": 1.0, "right": 0.0, "tie": 0.5}

Row = tuple[str, str, float, int, int]
duels = st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.sampled_from([1.0, 0.5, 0.0])).filter(
    lambda duel: duel[0] != duel[1]
)
rows_of_votes = st.lists(duels, min_size=1, max_size=60).map(
    lambda drawn: [(a, b, score, i % 7, i % 3) for i, (a, b, score) in enumerate(drawn)]
)


def by_model(rows: list[Row], **options) -> dict[str, tuple[float, float, float, int, int]]:
    rated = rate(from_rows(rows), **options)
    columns = (rated.rating, rated.low, rated.high, rated.rank_low, rated.rank_high)
    return {model: tuple(float(column[i]) for column in columns) for i, model in enumerate(rated.models)}


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for model in left:
        assert left[model] == pytest.approx(right[model], abs=1e-5)


def simulated(seed: int, models: int = 5, n: int = 2_000) -> list[Row]:
    rng = np.random.default_rng(seed)
    strength = rng.normal(0, 0.7, models)
    rows = []
    for i in range(n):
        a, b = rng.choice(models, 2, replace=False)
        won = float(rng.random() < 1 / (1 + np.exp(strength[b] - strength[a])))
        rows.append((f"m{a}", f"m{b}", 0.5 if rng.random() < 0.2 else won, i % 50, i % 90))
    return rows


def shares(rating: np.ndarray) -> np.ndarray:
    strength = np.exp((rating - MEAN) / ELO)
    return strength / strength.sum()


def published(name: str) -> tuple[list[Row], dict[str, dict[str, float]]]:
    """The comparisons, and their published scores by method and item."""
    path = PUBLISHED / f"{name}.csv"
    if not path.is_file():
        pytest.skip("the published comparisons are not beside this checkout")
    with path.open() as file:
        rows = [(row["left"], row["right"], SCORES[row["winner"]], 0, 0) for row in csv.DictReader(file)]
    golden: dict[str, dict[str, float]] = {}
    with (PUBLISHED / f"{name}-golden.csv").open() as file:
        for row in csv.DictReader(file):
            golden.setdefault(row["algorithm"], {})[row["item"]] = float(row["score"])
    return rows, golden


@pytest.mark.parametrize("name", ["food", "simple"])
def test_published_scores_by_our_methods(name: str) -> None:
    """Three of the seven are ours: Bradley–Terry, and from the counts alone counting and the average win rate."""
    rows, golden = published(name)
    rated = rate(from_rows(rows), cluster=None)
    assert dict(zip(rated.models, shares(rated.rating), strict=True)) == pytest.approx(
        golden["bradley_terry"], abs=1e-6
    )
    points = count(from_rows(rows)).points
    assert dict(zip(rated.models, points.sum(axis=1), strict=True)) == pytest.approx(golden["counting"], abs=1e-6)
    compared = points + points.T
    rates = np.divide(points, compared, out=np.zeros_like(points), where=compared > 0)
    average = {
        model: float(rates[i][compared[i] > 0].mean()) if (compared[i] > 0).any() else 0.0
        for i, model in enumerate(rated.models)
    }
    assert average == pytest.approx(golden["average_win_rate"], abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_same_as_evalica(seed: int) -> None:
    rows = simulated(seed)
    rated = rate(from_rows(rows))
    theirs = evalica.bradley_terry(
        [row[0] for row in rows],
        [row[1] for row in rows],
        [WINNERS[row[2]] for row in rows],
        tolerance=1e-12,
        limit=10_000,
    ).scores
    elo = ELO * (np.log(theirs) - np.log(theirs).mean()) + MEAN
    assert dict(zip(rated.models, rated.rating, strict=True)) == pytest.approx(elo.to_dict(), abs=0.01)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(rows_of_votes, st.randoms(use_true_random=False))
def test_the_order_of_votes_does_not_matter(rows: list[Row], chance) -> None:
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert_same(by_model(rows), by_model(shuffled))


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(rows_of_votes, st.permutations("abcde"))
def test_names_do_not_matter(rows: list[Row], names: list[str]) -> None:
    new = dict(zip("abcde", names, strict=True))
    renamed = by_model([(new[a], new[b], *rest) for a, b, *rest in rows])
    assert_same({new[model]: value for model, value in by_model(rows).items()}, renamed)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(rows_of_votes, st.lists(st.booleans(), min_size=60, max_size=60))
def test_sides_do_not_matter(rows: list[Row], swaps: list[bool]) -> None:
    swapped = [
        (b, a, 1 - score, *rest) if swap else (a, b, score, *rest)
        for (a, b, score, *rest), swap in zip(rows, swaps, strict=False)
    ]
    assert_same(by_model(rows), by_model(swapped))


@settings(max_examples=40, deadline=None)
@given(rows_of_votes)
def test_every_number_is_finite_and_in_its_place(rows: list[Row]) -> None:
    m = len({model for row in rows for model in row[:2]})
    for rating, low, high, rank_low, rank_high in by_model(rows).values():
        assert np.isfinite([rating, low, high]).all()
        assert low <= rating <= high
        assert 1 <= rank_low <= rank_high <= m


def test_unconnected_models_change_nothing_and_are_marked() -> None:
    rows = simulated(1, n=400)
    alone = by_model(rows, cluster=None)
    more = [*rows, ("x", "y", 1.0, 0, 0), ("x", "y", 0.0, 1, 1)]
    rated = rate(from_rows(more))
    assert not rated.connected
    together = by_model(more, cluster=None)
    for model in alone:
        assert together[model][0] == pytest.approx(alone[model][0], abs=1e-6)
        assert together[model][4] >= alone[model][4]  # x and y may be better, for all that is known


@settings(max_examples=40, deadline=None)
@given(rows_of_votes, st.integers(1, 5))
def test_an_unconnected_pair_changes_nobody(rows: list[Row], votes: int) -> None:
    before, after = by_model(rows, cluster=None), by_model([*rows, *([("x", "y", 1.0, 0, 0)] * votes)], cluster=None)
    for model in before:
        assert after[model][0] == pytest.approx(before[model][0], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(rows_of_votes, st.integers(1, 40))
def test_a_model_that_beats_all_others_has_a_finite_rating(rows: list[Row], wins: int) -> None:
    models = sorted({model for row in rows for model in row[:2]})
    rated = by_model([*rows, *(("z", model, 1.0, i, i) for model in models for i in range(wins))])
    assert rated["z"][0] == max(value[0] for value in rated.values())
    assert np.isfinite(rated["z"]).all()
    assert rated["z"][3] == 1


@settings(max_examples=30, deadline=None)
@given(rows_of_votes)
def test_columns_are_rows(rows: list[Row]) -> None:
    by_row, by_column = rate(from_rows(rows)), rate(from_columns(*zip(*rows, strict=True)))
    assert by_row.models == by_column.models
    assert by_row.rating == pytest.approx(by_column.rating, abs=1e-9)
    assert by_row.high == pytest.approx(by_column.high, abs=1e-9)


def test_a_model_that_won_everything_is_first_and_not_certain() -> None:
    rows = [("best", "rest", 1.0, i, i) for i in range(30)]
    rated = rate(from_rows(rows))
    best = rated.models.index("best")
    assert 300 < rated.rating[best] - rated.rating[1 - best] < 1_000
    assert rated.high[best] - rated.low[best] > 200
    assert (rated.rank_low[best], rated.rank_high[best]) == (1, 1)
    assert rated.corrected.all()


def test_a_newcomer_that_won_everything_moves_nobody_else_far() -> None:
    rows = simulated(2)
    before, after = by_model(rows), by_model([*rows, ("new", "m0", 1.0, 0, 0), ("new", "m1", 1.0, 1, 1)])
    new = after.pop("new")
    assert new[2] - new[1] > 500
    gap = {model: after[model][0] - before[model][0] for model in before}
    assert max(gap.values()) - min(gap.values()) < 5


def test_one_vote_and_no_vote() -> None:
    rating = by_model([("a", "b", 1.0, 0, 0)])
    assert rating["a"][0] > rating["b"][0]
    assert all(value[3:] == (1, 2) for value in rating.values())
    assert rate(from_rows([])).models == ()
    alone = rate(from_rows([], models=["a"]))
    assert alone.rating.tolist() == [MEAN]


def test_only_ties_are_no_certainty() -> None:
    rated = rate(from_rows([("a", "b", 0.5, i, i) for i in range(30)]))
    assert rated.rating.tolist() == pytest.approx([MEAN, MEAN])
    assert (rated.high - rated.low).min() > 20
    assert (rated.rank_high - rated.rank_low).tolist() == [1, 1]


def test_votes_that_share_a_prompt_are_not_counted_as_independent() -> None:
    rows = [("a", "b", float(i % 4 != 0), i % 4, i) for i in range(200)]  # each of 4 prompts always goes one way
    alone, clustered = rate(from_rows(rows), cluster=None), rate(from_rows(rows), cluster="prompt")
    assert clustered.high[0] - clustered.low[0] > 4 * (alone.high[0] - alone.low[0])


def test_few_differing_voters_widen_the_intervals() -> None:
    rows = [("a", "b", float((i % 6) > 1), i // 6, i % 6) for i in range(240)]
    rated = rate(from_rows(rows))
    assert rated.clustered_by == "prompt and voter"
    assert rated.clusters == 6


@pytest.mark.long
@pytest.mark.parametrize(
    ("world", "cluster"),
    [
        (VoteSimulation(3, 60, 25), None),
        (VoteSimulation(3, 60, 25), "prompt"),
        (VoteSimulation(4, 120, 40, taste=1.0), "prompt"),
        (VoteSimulation(12, 30, 20, taste=0.5), "prompt"),
    ],
    ids=str,
)
def test_intervals_cover_the_truth(world: VoteSimulation, cluster) -> None:
    # 200 runs: the share itself is uncertain by about 1.5 points for few models.
    assert 0.92 <= coverage(world, cluster, runs=200).covered <= 0.98


def test_unclustered_intervals_fail_if_prompts_differ() -> None:
    assert coverage(VoteSimulation(2, 200, 20, taste=1.0), None, runs=100).covered < 0.85


def test_two_million_votes_need_no_loop_over_votes() -> None:
    rng = np.random.default_rng(0)
    n, m = 200_000, 100
    first = rng.integers(0, m, n)
    second = (first + rng.integers(1, m, n)) % m
    zeros = np.zeros(n, dtype=int)
    votes = Votes(tuple(map(str, range(m))), first, second, rng.integers(0, 3, n) / 2, rng.integers(0, 500, n), zeros)
    rated = rate(votes)
    assert rated.votes.sum() == 2 * n
    assert np.abs(rated.rating - MEAN).max() < 60  # no model is better here
