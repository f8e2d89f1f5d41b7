"""The scorers' definitions by example, and their summaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.intervals import mean_interval, share_interval
from evals.scorers.sample import Sample
from evals.scorers.score_summary import paired_difference, score, score_all
from evals.scorers.text_match import exact, length, partial, repetition, topic_coverage, word_count

REFUND = Sample(topics=(("refund*", "money back"), ("order 12",)))


@pytest.mark.parametrize(
    ("scorer", "sample", "answer", "expected"),
    [
        (exact(), Sample(expected="Yes, we do."), " yes,  we do.\n", 1.0),
        (exact(ignore_case=False), Sample(expected="Yes"), "yes", 0.0),
        (exact(), Sample(), "anything", None),
        (partial(), Sample(expected="12"), "Order #12 is here.", 1.0),
        (partial(), Sample(expected="12"), "Order #123 is here.", 0.0),
        (partial(), Sample(expected="#12"), "Order #12.", 1.0),
        (partial(), Sample(), "anything", None),
        (topic_coverage(), REFUND, "We refunded order 12.", 1.0),
        (topic_coverage(), REFUND, "You get your Money  Back for order 123.", 0.5),
        (topic_coverage(), REFUND, "", 0.0),
        (topic_coverage(), Sample(), "anything", None),
        (length(2, 4), Sample(), "it's two", 1.0),
        (length(2, 4), Sample(), "one two three four five", 0.0),
        (word_count(), Sample(), "It's a well-made thing.", 4.0),
        (repetition(), Sample(), "a b c d e", 0.0),
        (repetition(1), Sample(), "no no no no", 0.75),
        (repetition(), Sample(), "", 0.0),
    ],
)
def test_scorers(scorer, sample: Sample, answer: str, expected: float | None) -> None:
    assert scorer(sample, answer) == expected


def test_a_summary_has_its_interval_and_counts_what_is_missing() -> None:
    samples = [Sample(prompt=f"p{i}", expected="yes") for i in range(20)]
    answers = ["yes"] * 15 + ["no"] * 4 + [None]
    summary = score(samples, answers, exact())
    assert (summary.mean, summary.n, summary.missing) == (pytest.approx(15 / 19), 19, 1)
    assert summary.low is not None
    assert summary.high is not None
    assert 0.5 < summary.low < 15 / 19 < summary.high < 1
    nothing = score(samples, [None] * 20, exact())
    assert (nothing.mean, nothing.low, nothing.n, nothing.missing) == (None, None, 0, 20)
    assert set(score_all(samples, answers, {"exact": exact(), "words": word_count()})) == {"exact", "words"}


def test_the_same_prompt_many_times_is_one_cluster() -> None:
    summary = score([Sample(prompt="p", expected="yes")] * 50, ["yes"] * 50, exact())
    assert (summary.mean, summary.low, summary.high) == (1.0, None, None)


def test_a_paired_difference_is_surer_than_two_means() -> None:
    samples = [Sample(prompt=f"p{i}", topics=(("yes",), ("please",))) for i in range(40)]
    worse = ["yes please" if i % 2 else "no" for i in range(40)]
    better = ["yes please" if i % 2 or i % 8 == 0 else "no" for i in range(40)]
    apart = [score(samples, answers, topic_coverage()) for answers in (worse, better)]
    difference = paired_difference(samples, worse, better, topic_coverage())
    assert difference.mean == pytest.approx(5 / 40)
    assert (difference.low or 0) > 0
    assert (difference.high or 0) - (difference.low or 0) < (apart[0].high or 0) - (apart[0].low or 0)
    same = paired_difference(samples, worse, worse, topic_coverage())
    assert same.mean == 0.0
    assert (same.low or 0) < 0 < (same.high or 0)  # forty zeros are not certain


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), min_size=1, max_size=50))
def test_intervals_hold_their_mean_and_stay_in_range(drawn: list[tuple[float, int]]) -> None:
    values, clusters = [value for value, _ in drawn], [cluster for _, cluster in drawn]
    share, mean = share_interval(values, clusters), mean_interval(values, clusters)
    assert 0 <= share.low <= share.mean + 1e-9
    assert share.mean - 1e-9 <= share.high <= 1
    assert mean.low <= mean.mean <= mean.high


def test_observations_of_one_cluster_count_as_fewer() -> None:
    values = [0.0, 1.0] * 20
    alone = share_interval(values, range(40))
    agreeing = share_interval(values, [place % 20 for place in range(40)])  # two equal values in each cluster
    assert agreeing.high - agreeing.low > 1.3 * (alone.high - alone.low)


def test_equal_answers_are_no_certainty_and_no_coin_either() -> None:
    samples = [Sample(prompt=f"p{i}", expected="yes") for i in range(80)]
    difference = paired_difference(samples, ["yes"] * 80, ["yes"] * 80, exact())
    assert difference.mean == 0.0
    assert difference.high == pytest.approx(3 / 80, rel=0.05)  # the rule of three
    assert difference.low == -difference.high
    grouped = paired_difference([Sample(prompt=f"p{i // 8}", expected="yes") for i in range(80)], ["yes"] * 80,
                                ["yes"] * 80, exact())  # fmt: skip
    assert grouped.high > 5 * difference.high  # ten groups are weaker evidence than eighty
    assert paired_difference(samples[:1], ["yes"], ["yes"], exact()).high is None
