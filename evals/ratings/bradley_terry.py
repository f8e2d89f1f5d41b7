"""Bradley–Terry ratings with intervals. Arrays in, a frozen result out.

The fit is maximum likelihood on counts per pair (a tie is half a win each), by Newton's method. If the likelihood
has no maximum (a model that won or lost everything; Ford 1957: the graph of wins must be strongly connected), half a
vote is added each way to the pairs that cause it, the usual continuity correction. Intervals come from the sandwich
estimator, summed over clusters (Liang & Zeger 1986; Miller 2024, arXiv:2411.00640) with Student's t for the number of
clusters: by prompt and by voter as in `voter_means`, the largest of both clusterings and the two-way one, for each
rating and each difference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import t as student

from evals.ratings.voter_means import MIN_VOTERS
from evals.votes.votes import Votes

ELO = 400 / log(10)  # Elo points for each unit of log-odds
MEAN = 1000.0
_NORMAL_FROM = 30  # independent votes from which the normal quantile is accurate
Cluster = Literal["auto", "prompt and voter", "prompt", "voter"] | None


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


def rate(votes: Votes, *, cluster: Cluster = "auto", equal_voters: bool = False, level: float = 0.95) -> Rating:
    """Rates the models of these votes.

    Args:
        cluster: what votes are clustered by. None: nothing. "auto": by prompt and voter; under 5 voters their spread
            cannot be estimated, and the intervals hold for these voters only, clustered by prompt.
        equal_voters: give each voter the same weight instead of each vote.
        level: of each interval, and of each model's range of ranks.
    """
    m = len(votes.models)
    weight = voter_weights(votes) if equal_voters else None
    tally, plain = count(votes, weight), count(votes)
    pairs = plain.points + plain.points.T
    strength, part, _ = fitted = strengths(tally)
    spread = _spread(votes, tally, fitted, weight, clustered_by(votes, cluster))
    variance = np.max([np.diag(one) for one in spread.covariances], axis=0)
    width = student.ppf((1 + level) / 2, spread.freedom) * np.sqrt(np.clip(variance, 0.0, None))
    rank_low, rank_high = _ranks(strength, spread, part, level)
    return Rating(
        models=votes.models,
        rating=MEAN + ELO * strength,
        low=MEAN + ELO * (strength - width),
        high=MEAN + ELO * (strength + width),
        rank_low=rank_low,
        rank_high=rank_high,
        votes=pairs.sum(axis=1).round().astype(int),
        wins=plain.won.sum(axis=1).astype(int),
        losses=plain.won.sum(axis=0).astype(int),
        ties=plain.tied.sum(axis=1).astype(int),
        covariance=max(spread.covariances, key=lambda one: float(np.trace(one))),
        part=part if m else np.zeros(0, dtype=int),
        corrected=fitted.extra.sum(axis=1) > 0,
        clustered_by=spread.clustered_by,
        clusters=spread.clusters,
        level=level,
    )


def voter_weights(votes: Votes) -> np.ndarray | None:
    """(n,): each vote's weight, 1 on average, such that voters have equal weight; None if all votes have."""
    times = np.bincount(votes.voter)
    voted = times[times > 0]
    if len(voted) < 2 or (voted == voted[0]).all():
        return None
    return (len(votes) / len(voted) / np.maximum(times, 1))[votes.voter]


def count(votes: Votes, weight: np.ndarray | None = None) -> Counts:
    """Votes as counts, or sums of weights, for each pair of models, in one pass."""
    m = len(votes.models)
    outcome = (votes.score * 2).astype(np.int64)
    cell = (votes.first * m + votes.second) * 3 + outcome
    lost, tied, won = np.bincount(cell, weight, 3 * m * m).reshape(m, m, 3).transpose(2, 0, 1).astype(float)
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
    """The strengths (log-odds, mean 0 in each connected part) that make these wins most likely.

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
        # The likelihood is concave, but Newton's step can overshoot: halve it until the likelihood does not fall.
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
    pairs = wins + wins.T
    # Weighted votes may sum to less than one; half of the sum is then enough.
    return np.where(group[:, None] != group[None, :], np.minimum(pairs, 1.0) / 2, 0.0)


class _Spread(NamedTuple):
    """Covariances of the log-odds, of which the largest counts; the degrees of freedom; what they were clustered by."""

    covariances: list[np.ndarray]
    freedom: float
    clustered_by: str | None
    clusters: int


def clustered_by(votes: Votes, cluster: Cluster) -> str | None:
    """What votes are clustered by: the given value, or for "auto" what the number of voters allows."""
    if cluster != "auto":
        return cluster
    voters = np.count_nonzero(np.bincount(votes.voter)) if len(votes) else 0
    return "prompt and voter" if voters >= MIN_VOTERS else "prompt"


def _spread(
    votes: Votes, tally: Counts, fitted: Strengths, weight: np.ndarray | None, clustered: str | None
) -> _Spread:
    strength, part, extra = fitted
    chance = chances(strength)
    m, n = len(votes.models), len(votes)
    wins = tally.points + extra
    bread = np.linalg.inv(information(wins + wins.T, chance, part)) if m else np.zeros((0, 0))
    squared = tally if weight is None else count(votes, weight**2)
    pairs = squared.points + squared.points.T + extra + extra.T
    model_based = bread @ _laplacian(pairs * chance * (1 - chance)) @ bread
    free = max(m - 1 - int(part.max(initial=0)), 1)
    added = _laplacian(extra * (1 - chance) ** 2 + (extra * (1 - chance) ** 2).T)
    residual = (votes.score - chance[votes.first, votes.second]) * (1.0 if weight is None else weight)
    meats = _meats(votes, residual, clustered, lambda: _meat_of_votes(squared, chance))
    clusters = min(meat.clusters for meat in meats)
    # Stata's small-sample factor: the fit absorbs some of the spread that the interval is estimated from.
    absorbed = max(n - 1, 1) / max(n - free, 1)
    # Thirty ties have no spread but give no certainty: the rule of three bounds what was not observed.
    floor = min(3 / max(clusters, 1), 1.0) * model_based
    covariances = [bread @ (absorbed * meat.sum + added) @ bread for meat in meats]
    if (np.max([np.diag(one) for one in covariances], axis=0) < np.diag(floor) * (1 - 1e-6)).any():
        covariances = [covariance + floor for covariance in covariances]
    # Independent votes vary as coin tosses do, so with enough of them the normal quantile is accurate; Student's
    # is too wide (97.3 % coverage at 30 votes).
    independent = clusters == n >= _NORMAL_FROM
    return _Spread(covariances, np.inf if independent else max(clusters - 1, 1), clustered, clusters)


class _Meat(NamedTuple):
    sum: np.ndarray
    clusters: int


def _meats(votes: Votes, residual: np.ndarray, clustered: str | None, by_vote: Callable[[], np.ndarray]) -> list[_Meat]:
    """The sandwich's middle by each clustering, with its small-sample factor: by prompt, by voter, and two-way."""
    n = len(votes)

    def meat(code: np.ndarray | None) -> _Meat:
        found = _Meat(by_vote(), n) if code is None else _meat_of_clusters(votes, residual, code)
        return _Meat(found.sum * (found.clusters / max(found.clusters - 1, 1)), found.clusters)

    if clustered is None:
        return [meat(None)]
    if clustered != "prompt and voter":
        return [meat(votes.prompt if clustered == "prompt" else votes.voter)]
    prompt = meat(votes.prompt)
    alone = np.count_nonzero(np.bincount(votes.voter)) == n
    if alone:  # if each voter has one vote, clusters by voter and their intersections with prompts are single votes
        return [prompt, meat(None)]
    voter = meat(votes.voter)
    both = _Meat(prompt.sum + voter.sum - meat(None).sum, min(prompt.clusters, voter.clusters))
    return [prompt, voter, both]


def _meat_of_votes(tally: Counts, chance: np.ndarray) -> np.ndarray:
    """The sum of squared scores, from counts alone: each vote is its own cluster."""
    won = tally.won * (1 - chance) ** 2
    return _laplacian(won + won.T + tally.tied * (0.5 - chance) ** 2)


def _meat_of_clusters(votes: Votes, residual: np.ndarray, cluster: np.ndarray) -> _Meat:
    """The sum over clusters of the outer product of the cluster's summed scores."""
    m = len(votes.models)
    size = int(cluster.max(initial=-1)) + 1
    clusters = int(np.count_nonzero(np.bincount(cluster, minlength=size)))
    if size * m <= 50_000_000:  # one dense table, 400 MB at most
        sums = np.bincount(cluster * m + votes.first, residual, size * m)
        sums -= np.bincount(cluster * m + votes.second, residual, size * m)
        sums = sums.reshape(size, m)
        return _Meat(sums.T @ sums, clusters)
    row = np.concatenate([cluster, cluster])
    column = np.concatenate([votes.first, votes.second])
    sparse = coo_array((np.concatenate([residual, -residual]), (row, column)), shape=(size, m)).tocsr()
    return _Meat((sparse.T @ sparse).toarray(), clusters)


def _ranks(strength: np.ndarray, spread: _Spread, part: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Ranges of ranks from the differences themselves, over all m − 1 rivals at once (Bonferroni).

    Mogstad et al. 2024, "Inference for Ranks"; overlapping intervals would be too conservative.
    """
    m = len(strength)
    variance = np.max([np.diag(one)[:, None] + np.diag(one)[None, :] - 2 * one for one in spread.covariances], axis=0)
    quantile = student.ppf(1 - (1 - level) / 2 / max(m - 1, 1), spread.freedom)
    margin = quantile * np.sqrt(np.clip(variance, 0.0, None))
    comparable = part[:, None] == part[None, :]
    difference = strength[:, None] - strength[None, :]
    np.fill_diagonal(margin, np.inf)
    margin += 1e-9  # for rounding of equal strengths
    better = (comparable & (difference < -margin)).sum(axis=1)
    worse = (comparable & (difference > margin)).sum(axis=1)
    return 1 + better, m - worse
