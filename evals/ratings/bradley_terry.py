"""Bradley–Terry ratings with intervals. Arrays in, a frozen result out.

The fit is maximum likelihood on counts per pair (a tie is half a win each), by Newton's method. Where the likelihood
has no maximum (a model that won or lost everything; Ford 1957: the graph of wins must be strongly connected), half a
vote is added each way to the pairs that cause it, the usual continuity correction. Intervals come from the sandwich
estimator, summed over clusters (Liang & Zeger 1986; Miller 2024, arXiv:2411.00640) with Student's t for the number of
clusters.
"""

from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student

from evals.votes.votes import Votes

ELO = 400 / log(10)  # Elo points for each unit of log-odds
MEAN = 1000.0
_FEW_VOTERS = (5, 40)  # from 5 voters their spread can be estimated; from 40 it is small enough
_NORMAL_FROM = 30  # independent votes from which the normal quantile is accurate
Cluster = Literal["auto", "prompt", "voter"] | None


@dataclass(frozen=True, eq=False)
class Rating:
    """m models rated; arrays have shape (m,), in the order of `models`.

    `rating`, `low`, `high` are on the Elo scale with mean 1000 in each connected part; `rank_low` to `rank_high` is
    the range of ranks (1 is best) that the data allow, at the same level. `covariance` (m, m) is of the log-odds.
    `part` numbers the connected parts: models in different parts cannot be compared. `corrected` marks the models
    that needed half a vote each way.
    """

    models: tuple[str, ...]
    rating: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rank_low: np.ndarray
    rank_high: np.ndarray
    votes: np.ndarray
    wins: np.ndarray
    losses: np.ndarray
    ties: np.ndarray
    covariance: np.ndarray
    part: np.ndarray
    corrected: np.ndarray
    clustered_by: str | None
    clusters: int
    level: float

    @property
    def connected(self) -> bool:
        """Whether every model can be compared with every other, at least through others."""
        return len(self.models) < 2 or int(self.part.max()) == 0


@dataclass(frozen=True, eq=False)
class Counts:
    """Votes as counts for each ordered pair, shape (m, m): `won[i, j]` votes of i over j; `tied` is symmetric."""

    won: np.ndarray
    tied: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Wins with half of the ties."""
        return self.won + self.tied / 2


def rate(votes: Votes, *, cluster: Cluster = "auto", level: float = 0.95) -> Rating:
    """Rates the models of these votes.

    Args:
        cluster: what votes are clustered by. None: nothing. "auto": by prompt; with 5 to 39 voters, by voter if that
            gives the wider intervals (under 5 voters their spread cannot be estimated, and the intervals hold for these
            voters only).
        level: of each interval, and of each model's range of ranks.
    """
    m = len(votes.models)
    tally = count(votes)
    pairs = tally.points + tally.points.T
    strength, part, extra = fitted = strengths(tally)
    covariance, quantile_df, clustered_by, clusters = _spread(votes, tally, fitted, cluster)
    deviation = np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    width = student.ppf((1 + level) / 2, quantile_df) * deviation
    rank_low, rank_high = _ranks(strength, covariance, part, level, quantile_df)
    return Rating(
        models=votes.models,
        rating=MEAN + ELO * strength,
        low=MEAN + ELO * (strength - width),
        high=MEAN + ELO * (strength + width),
        rank_low=rank_low,
        rank_high=rank_high,
        votes=pairs.sum(axis=1).round().astype(int),
        wins=tally.won.sum(axis=1).astype(int),
        losses=tally.won.sum(axis=0).astype(int),
        ties=tally.tied.sum(axis=1).astype(int),
        covariance=covariance,
        part=part if m else np.zeros(0, dtype=int),
        corrected=extra.sum(axis=1) > 0,
        clustered_by=clustered_by,
        clusters=clusters,
        level=level,
    )


def count(votes: Votes) -> Counts:
    """Votes as counts for each pair of models, in one pass."""
    m = len(votes.models)
    outcome = (votes.score * 2).astype(np.int64)
    cell = (votes.first * m + votes.second) * 3 + outcome
    lost, tied, won = np.bincount(cell, minlength=3 * m * m).reshape(m, m, 3).transpose(2, 0, 1).astype(float)
    return Counts(won=won + lost.T, tied=tied + tied.T)


class Strengths(NamedTuple):
    """The fitted strengths (log-odds, (m,)), the connected part of each model, and the half votes added, (m, m)."""

    strength: np.ndarray
    part: np.ndarray
    extra: np.ndarray


def strengths(tally: Counts) -> Strengths:
    """The maximum likelihood fit of these counts."""
    wins = tally.points
    _, part = connected_components(csr_array(wins + wins.T > 0), directed=False)
    extra = _half_votes(wins)
    return Strengths(fit(wins + extra, part), part, extra)


def fit(wins: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The strengths (log-odds, mean 0 in each connected part) that make these wins likeliest.

    Args:
        wins: (m, m); `wins[i, j]` is what i won of j, ties as half. Strongly connected within each part.
    """
    pairs, won = wins + wins.T, wins.sum(axis=1)
    strength = np.zeros(len(wins))
    likelihood = _likelihood(strength, wins)
    for _ in range(100):
        chance = chances(strength)
        gradient = won - (pairs * chance).sum(axis=1)
        step = np.linalg.solve(information(pairs, chance, part), gradient)
        # The likelihood is concave, but Newton can overshoot far from the maximum: halve until it does not fall.
        while (reached := _likelihood(strength + step, wins)) < likelihood - 1e-9 * abs(likelihood):
            step /= 2
        strength, likelihood = strength + step, reached
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    return strength


def chances(strength: np.ndarray) -> np.ndarray:
    """(m, m): the chance that row beats column, given strengths in log-odds."""
    return 1 / (1 + np.exp(strength[None, :] - strength[:, None]))


def _likelihood(strength: np.ndarray, wins: np.ndarray) -> float:
    return -float((wins * np.logaddexp(0.0, strength[None, :] - strength[:, None])).sum())


def _laplacian(weights: np.ndarray) -> np.ndarray:
    """For symmetric weights w: the sum over pairs of w (e_i − e_j)(e_i − e_j)ᵀ."""
    return np.diag(weights.sum(axis=1)) - weights


def information(pairs: np.ndarray, chance: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Fisher's information (m, m), made invertible by fixing each part's mean at 0."""
    weights = pairs * chance * (1 - chance)
    scale = max(float(weights.mean()), 1e-12) if weights.size else 1.0
    return _laplacian(weights) + scale * (part[:, None] == part[None, :])


def _half_votes(wins: np.ndarray) -> np.ndarray:
    """Half a vote each way for pairs between groups where one side won every vote."""
    _, group = connected_components(csr_array(wins > 0), directed=True, connection="strong")
    across = (wins + wins.T > 0) & (group[:, None] != group[None, :])
    return across / 2


def _spread(
    votes: Votes, tally: Counts, fitted: Strengths, cluster: Cluster
) -> tuple[np.ndarray, float, str | None, int]:
    """Covariance, degrees of freedom, what it was clustered by, and the number of clusters."""
    strength, part, extra = fitted
    chance = chances(strength)
    m, n = len(votes.models), len(votes)
    wins = tally.points + extra
    bread = np.linalg.inv(information(wins + wins.T, chance, part)) if m else np.zeros((0, 0))
    model_based = bread @ _laplacian((wins + wins.T) * chance * (1 - chance)) @ bread
    free = max(m - 1 - int(part.max(initial=0)), 1)
    added = _laplacian(extra * (1 - chance) ** 2 + (extra * (1 - chance) ** 2).T)
    found: list[tuple[np.ndarray, float, str | None, int]] = []
    for name in clusterings(votes, cluster):
        if name is None:
            meat, clusters = _meat_of_votes(tally, chance), n
        else:
            meat, clusters = _meat_of_clusters(votes, chance, votes.prompt if name == "prompt" else votes.voter)
        # Stata's small-sample factor: the fit absorbs some of the spread that the interval is estimated from.
        factor = clusters / max(clusters - 1, 1) * (max(n - 1, 1) / max(n - free, 1))
        covariance = bread @ (factor * meat + added) @ bread
        # Thirty ties have no spread but are not certainty: the rule of three bounds what was not observed.
        floor = min(3 / max(clusters, 1), 1.0) * model_based
        if (np.diag(covariance) < np.diag(floor) * (1 - 1e-6)).any():
            covariance = covariance + floor
        # Independent votes vary as coin tosses do, so with enough of them the normal quantile is accurate; Student's
        # is too wide (97.3 % coverage at 30 votes).
        free_of_clusters = clusters == n >= _NORMAL_FROM
        found.append((covariance, np.inf if free_of_clusters else max(clusters - 1, 1), name, clusters))
    return max(found, key=lambda it: float(np.trace(it[0])) * student.ppf(0.975, it[1]) ** 2)


def clusterings(votes: Votes, cluster: Cluster) -> list[str | None]:
    """What votes may be clustered by: the given one, or for "auto" those that the number of voters allows."""
    if cluster != "auto":
        return [cluster]
    voters = np.count_nonzero(np.bincount(votes.voter)) if len(votes) else 0
    return ["prompt", "voter"] if _FEW_VOTERS[0] <= voters < _FEW_VOTERS[1] else ["prompt"]


def _meat_of_votes(tally: Counts, chance: np.ndarray) -> np.ndarray:
    """The sum of squared scores, from counts alone: each vote is its own cluster."""
    won = tally.won * (1 - chance) ** 2
    return _laplacian(won + won.T + tally.tied * (0.5 - chance) ** 2)


def _meat_of_clusters(votes: Votes, chance: np.ndarray, cluster: np.ndarray) -> tuple[np.ndarray, int]:
    """The sum over clusters of the outer product of the cluster's summed scores."""
    m = len(votes.models)
    size = int(cluster.max(initial=-1)) + 1
    clusters = int(np.count_nonzero(np.bincount(cluster, minlength=size)))
    residual = votes.score - chance[votes.first, votes.second]
    if size * m <= 50_000_000:  # one dense table, 400 MB at most
        sums = np.bincount(cluster * m + votes.first, residual, size * m)
        sums -= np.bincount(cluster * m + votes.second, residual, size * m)
        sums = sums.reshape(size, m)
        return sums.T @ sums, clusters
    row = np.concatenate([cluster, cluster])
    column = np.concatenate([votes.first, votes.second])
    sparse = coo_array((np.concatenate([residual, -residual]), (row, column)), shape=(size, m)).tocsr()
    return (sparse.T @ sparse).toarray(), clusters


def _ranks(
    strength: np.ndarray, covariance: np.ndarray, part: np.ndarray, level: float, df: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of ranks from the differences themselves, over all m − 1 rivals at once (Bonferroni).

    Mogstad et al. 2024, "Inference for Ranks"; overlapping intervals would be too conservative.
    """
    m = len(strength)
    variance = np.diag(covariance)[:, None] + np.diag(covariance)[None, :] - 2 * covariance
    quantile = student.ppf(1 - (1 - level) / 2 / max(m - 1, 1), df)
    margin = quantile * np.sqrt(np.clip(variance, 0.0, None))
    comparable = part[:, None] == part[None, :]
    difference = strength[:, None] - strength[None, :]
    np.fill_diagonal(margin, np.inf)
    margin += 1e-9  # for rounding of equal strengths
    better = (comparable & (difference < -margin)).sum(axis=1)
    worse = (comparable & (difference > margin)).sum(axis=1)
    return 1 + better, m - worse
