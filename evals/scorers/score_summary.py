"""Means of scores over many answers, and paired differences of two models, with clustered intervals.

Two models that answered the same prompts are compared prompt by prompt (Miller 2024, arXiv:2411.00640): the
difference has a far narrower interval than the two means. A sample without a score is left out and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.intervals import mean_interval, share_interval
from evals.scorers.sample import Sample, Scorer


@dataclass(frozen=True)
class ScoreSummary:
    """A mean over n answers with its 95 % interval, clustered by prompt; `missing` answers have no score.

    `mean` is None if n is 0; `low` and `high` are None if fewer than two prompts give no interval.
    """

    mean: float | None
    low: float | None
    high: float | None
    n: int
    missing: int

    def to_json(self) -> dict[str, Any]:
        """The summary as plain JSON values."""
        return asdict(self)


def score(samples: Sequence[Sample], answers: Sequence[str | None], scorer: Scorer) -> ScoreSummary:
    """Scores an answer for each sample; an answer that is None (the model failed) counts as missing.

    Raises:
        ValueError: the numbers of answers and samples differ.
    """
    scores = _scores(samples, answers, scorer)
    return _summary([value for _, value in scores], [prompt for prompt, _ in scores], len(samples))


def score_all(
    samples: Sequence[Sample], answers: Sequence[str | None], scorers: Mapping[str, Scorer]
) -> dict[str, ScoreSummary]:
    """Several scorers over the same answers, by their names."""
    return {name: score(samples, answers, scorer) for name, scorer in scorers.items()}


def paired_difference(
    samples: Sequence[Sample],
    answers_a: Sequence[str | None],
    answers_b: Sequence[str | None],
    scorer: Scorer,
) -> ScoreSummary:
    """The mean of b's score minus a's on the same samples; if the models differ the interval excludes 0."""
    both = [
        (_key(sample, i), after - before)
        for i, (sample, a, b) in enumerate(zip(samples, answers_a, answers_b, strict=True))
        if a is not None
        and b is not None
        and (before := scorer(sample, a)) is not None
        and (after := scorer(sample, b)) is not None
    ]
    differences, prompts = [value for _, value in both], [prompt for prompt, _ in both]
    shares = all(abs(value) <= 1 for value in differences)
    return summarise_differences(differences, prompts, len(samples), shares=shares)


def summarise(
    values: Sequence[float], clusters: Sequence[str], total: int, *, shares: bool, level: float = 0.95
) -> ScoreSummary:
    """The mean of scores, of `total` samples.

    Args:
        values, clusters: (n,) scores and their clusters: scores of one cluster are not independent.
        shares: whether the scores lie between 0 and 1 by definition.
        level: of the interval.
    """
    if not values:
        return ScoreSummary(None, None, None, 0, total)
    estimate = (share_interval if shares else mean_interval)(values, clusters, level)
    known = estimate.clusters > 1
    return ScoreSummary(
        mean=estimate.mean,
        low=estimate.low if known else None,
        high=estimate.high if known else None,
        n=len(values),
        missing=total - len(values),
    )


def summarise_differences(
    values: Sequence[float], clusters: Sequence[str], total: int, *, shares: bool, level: float = 0.95
) -> ScoreSummary:
    """As `summarise`, for differences of two models' scores; `shares`: the scores lay between 0 and 1."""
    if not shares:
        return summarise(values, clusters, total, shares=False, level=level)
    groups = len(set(clusters))
    if values and not any(values) and groups > 1:
        # No sample differs: the rule of three bounds the share that might, and none can differ by more than 1.
        most = 1 - (1 - level) ** (1 / groups)
        return ScoreSummary(0.0, -most, most, len(values), total - len(values))
    # Differences of shares lie between −1 and 1: scaled to shares, twenty equal ones are not certainty either.
    scaled = summarise([(value + 1) / 2 for value in values], clusters, total, shares=True, level=level)
    mean, low, high = (None if value is None else 2 * value - 1 for value in (scaled.mean, scaled.low, scaled.high))
    return ScoreSummary(mean, low, high, scaled.n, scaled.missing)


def _scores(samples: Sequence[Sample], answers: Sequence[str | None], scorer: Scorer) -> list[tuple[str, float]]:
    return [
        (_key(sample, i), value)
        for i, (sample, answer) in enumerate(zip(samples, answers, strict=True))
        if answer is not None and (value := scorer(sample, answer)) is not None
    ]


def _key(sample: Sample, i: int) -> str:
    return sample.prompt or f"sample {i}"  # a sample without a prompt is its own cluster


def _summary(values: list[float], prompts: list[str], total: int) -> ScoreSummary:
    return summarise(values, prompts, total, shares=all(0 <= value <= 1 for value in values))
