"""Means with clustered intervals: observations that share a prompt (or a voter) are not independent.

Clustered standard errors as in Miller 2024 (arXiv:2411.00640), with Student's t for the number of clusters; for
shares between 0 and 1 Wilson's interval on the effective number of observations, so that ten wins of ten are not
certainty. Numbers in, a frozen estimate out.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf, sqrt


@dataclass(frozen=True)
class Estimate:
    """A mean of n observations in `clusters` groups, and the interval at its level. NaN if n is 0."""

    mean: float
    low: float
    high: float
    n: int
    clusters: int


def mean_interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """The mean of any numbers, with a clustered interval; infinite if there are fewer than two clusters."""
    mean, error, groups = _clustered(values, clusters)
    if groups < 2:
        return Estimate(mean, -inf if values else mean, inf if values else mean, len(values), groups)
    width = _student_quantile((1 + level) / 2, groups - 1) * error
    return Estimate(mean, mean - width, mean + width, len(values), groups)


def share_interval(values: Sequence[float], clusters: Sequence[Hashable], level: float = 0.95) -> Estimate:
    """The mean of numbers from 0 to 1 (wins, with a tie as 0.5; passes), with a clustered Wilson interval."""
    mean, error, groups = _clustered(values, clusters)
    if groups < 2:
        low, high = (0.0, 1.0) if values else (mean, mean)
        return Estimate(mean, low, high, len(values), groups)
    # If all observations agree there is no spread to estimate: each cluster counts as one observation.
    n = mean * (1 - mean) / error**2 if error > 0 and 0 < mean < 1 else groups
    quantile = _student_quantile((1 + level) / 2, groups - 1)
    centre = (mean + quantile**2 / (2 * n)) / (1 + quantile**2 / n)
    width = quantile / (1 + quantile**2 / n) * sqrt(mean * (1 - mean) / n + quantile**2 / (4 * n**2))
    return Estimate(mean, max(0.0, centre - width), min(1.0, centre + width), len(values), groups)


def _clustered(values: Sequence[float], clusters: Sequence[Hashable]) -> tuple[float, float, int]:
    n = len(values)
    if n == 0:
        return float("nan"), float("nan"), 0
    mean = sum(values) / n
    sums: dict[Hashable, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    groups = len(sums)
    factor = groups / max(groups - 1, 1)
    return mean, sqrt(factor * sum(residual**2 for residual in sums.values())) / n, groups


def _student_quantile(probability: float, freedom: int) -> float:
    """Student's quantile for `freedom` degrees of freedom."""
    # Loaded on first use: the page imports this module, and scipy.stats takes a second of its start.
    from scipy.stats import t as student

    return float(student.ppf(probability, freedom))
