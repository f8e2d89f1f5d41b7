"""Prediction-powered inference: a mean from few human labels and many judge labels. Arrays in, a frozen result out.

PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453, after Angelopoulos et al. 2023, arXiv:2301.09633): the
judge's mean over all items, corrected by its error on the items that people labelled, weighted by the λ that minimises
the variance. An uninformative judge gets λ = 0 and changes nothing; a biased one is corrected. It is valid if the
prompts that people voted on are a random sample of all of them.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

MIN_CLUSTERS = 20  # with votes, and without (bench.judges: coverage by simulation)


@dataclass(frozen=True)
class Powered:
    """A mean with its interval, and its parts.

    `people` is the mean of people's values alone, with `people_low` and `people_high`. `correlation` is between judge
    and people on the items that both have labelled. `times` is the factor by which more human votes would have been
    needed for the same width without the judge: at most 1 / (1 - correlation²).
    """

    mean: float
    low: float
    high: float
    people: float
    people_low: float
    people_high: float
    labelled: int
    unlabelled: int
    weight: float
    correlation: float
    times: float


def powered_mean(
    human: Sequence[float] | np.ndarray,
    judge: Sequence[float] | np.ndarray,
    judge_alone: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable] | None = None,
    clusters_alone: Sequence[Hashable] | None = None,
    level: float = 0.95,
    weight: float | None = None,
) -> Powered:
    """Estimates the mean of people's values over all items; people labelled some of them, the judge all.

    Args:
        human, judge: (n,) values of the items that both labelled, n ≥ 2.
        judge_alone: (N,) the judge's values of the others.
        clusters, clusters_alone: (n,), (N,) what groups the items, such as prompts; without it each item is its own
            cluster.
        weight: λ from 0 to 1; without it, the one that minimises the variance.

    Returns:
        The interval is ± Student's t for the labelled clusters times the clustered standard error; infinite if
        there are fewer than two of them. Without items that only the judge labelled, it is people's own mean.

    Raises:
        ValueError: no item is labelled, or arrays of the same items differ in length.
    """
    from scipy.stats import t as student

    y, f, g = (np.asarray(values, dtype=np.float64) for values in (human, judge, judge_alone))
    if len(y) == 0 or len(y) != len(f):
        raise ValueError("human and judge must have the same length, at least 1.")
    own, others = _codes(clusters, len(y)), _codes(clusters_alone, len(g))
    groups = int(own.max()) + 1
    covariance, spread = _cluster_covariance(y, f, own), _cluster_covariance(f, f, own)
    alone = _cluster_covariance(g, g, others) if len(g) else 0.0
    if weight is None:
        # The variance is V(y) - 2 λ C(y, f) + λ² (V(f) + V(g)), of means: this minimises it.
        weight = covariance / (spread + alone) if len(g) and spread + alone > 0 else 0.0
        weight = min(max(weight, 0.0), 1.0)
    mean = float((y - weight * f).mean() + (weight * g.mean() if len(g) else weight * f.mean()))
    plain = _cluster_covariance(y, y, own)
    residual = y - weight * f
    variance = _cluster_covariance(residual, residual, own) + weight**2 * alone if len(g) else plain
    quantile = float(student.ppf((1 + level) / 2, groups - 1)) if groups > 1 else inf
    width, width_alone = (quantile * sqrt(max(v, 0.0)) if groups > 1 else inf for v in (variance, plain))
    deviations = float(y.std() * f.std())
    correlation = float(((y - y.mean()) * (f - f.mean())).mean()) / deviations if deviations > 0 else 0.0
    return Powered(
        mean=mean,
        low=mean - width,
        high=mean + width,
        people=float(y.mean()),
        people_low=float(y.mean()) - width_alone,
        people_high=float(y.mean()) + width_alone,
        labelled=len(y),
        unlabelled=len(g),
        weight=float(weight),
        correlation=correlation,
        times=plain / variance if variance > 0 else 1.0,
    )


def powered_if_enough(
    human: Sequence[float] | np.ndarray,
    judge: Sequence[float] | np.ndarray,
    judge_alone: Sequence[float] | np.ndarray,
    clusters: Sequence[Hashable],
    clusters_alone: Sequence[Hashable],
) -> Powered | None:
    """`powered_mean` if both parts have at least 20 clusters; otherwise None, because the interval would be invalid."""
    if min(len(set(clusters)), len(set(clusters_alone))) < MIN_CLUSTERS:
        return None
    return powered_mean(human, judge, judge_alone, clusters, clusters_alone)


def _cluster_covariance(x: np.ndarray, y: np.ndarray, clusters: np.ndarray) -> float:
    """The covariance of two means whose items come in clusters; 0 if there is one cluster."""
    groups = int(clusters.max()) + 1
    if groups < 2:
        return 0.0
    first = np.bincount(clusters, x - x.mean())
    second = first if y is x else np.bincount(clusters, y - y.mean())
    return float(first @ second) * groups / (groups - 1) / len(x) ** 2


def _codes(clusters: Sequence[Hashable] | None, n: int) -> np.ndarray:
    if clusters is None:
        return np.arange(n)
    if len(clusters) != n:
        raise ValueError("There must be one cluster for each item.")
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(cluster, len(codes)) for cluster in clusters], dtype=np.int64)
