"""The win rate that a verdict is about, and its uncertainty: a mean over equally weighted voters.

The target is the mean over voters of the mean over each voter's prompts, so that a frequent voter does not count as
several people. It is estimated for two groups. "These people": the voters are fixed and the prompts random. "People
like them": voters and prompts are both random, which takes at least five voters.

The variance for people like them is two-way (the clusterings by prompt and by voter less their intersection; Cameron,
Gelbach & Miller 2011), never below either clustering and never below that for these people, with Student's t on the
smaller number of clusters. For these people it is clustered by prompt around each voter's own mean. Intervals are
Wilson's on the effective number of votes. Arrays in, frozen results out; every function also takes arrays of runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Any, Literal

import numpy as np
from scipy.special import betaln
from scipy.stats import t as student

Scope = Literal["these people", "people like them"]
Numbers = Any  # a float, or an array with one element per run
MIN_VOTERS = 5  # fewer voters are too small a sample of other people
_PRIOR = 10.0  # of the Beta mixture


@dataclass(frozen=True, eq=False)
class Cells:
    """Votes with one score for each voter and prompt, the mean if there are several; all arrays are (n,).

    `prompt` and `voter` are integers from 0 without gaps.
    """

    score: np.ndarray
    prompt: np.ndarray
    voter: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    def where(self, keep: np.ndarray) -> Cells:
        """Some of the cells; prompts and voters are numbered again."""
        return Cells(self.score[keep], _numbered(self.prompt[keep]), _numbered(self.voter[keep]))


@dataclass(frozen=True, eq=False)
class VoterMean:
    """The equally weighted mean over voters and its variance; each field is a number, or an array over runs.

    `votes` counts a voter's votes on one prompt once.
    `variance` is for people like them and has `freedom` degrees of freedom, `own_variance` and `own_freedom` are for
    these people. NaN if there are no votes.
    """

    mean: Numbers
    votes: Numbers
    voters: Numbers
    prompts: Numbers
    variance: Numbers
    own_variance: Numbers
    freedom: Numbers
    own_freedom: Numbers

    def of(self, scope: Scope) -> tuple[Numbers, Numbers, Numbers]:
        """Variance, degrees of freedom, and the number of clusters that counts if all votes agree."""
        if scope == "these people":
            return self.own_variance, self.own_freedom, self.prompts
        return self.variance, self.freedom, np.minimum(self.voters, self.prompts)


@dataclass(frozen=True, eq=False)
class VoteSums:
    """What the variance is computed from: sums by voter (…, voters) and by prompt (…, prompts).

    By voter: `votes`, `points` and `squares` of their scores. By prompt, over its votes with weight w, one over the
    voter's votes: `weight` is Σ w, `score` is Σ w·score, and `centred` is Σ w·m/(m − 1)·(score − the voter's mean),
    where m is the voter's number of votes; voters with one vote are left out of `centred`.
    """

    votes: np.ndarray
    points: np.ndarray
    squares: np.ndarray
    weight: np.ndarray
    score: np.ndarray
    centred: np.ndarray


def cells_of(score: np.ndarray, prompt: np.ndarray, voter: np.ndarray) -> Cells:
    """One score for each voter and prompt, in the order of their first votes; arrays are (n,)."""
    if not len(score):
        return Cells(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    key = prompt.astype(np.int64) * (int(voter.max()) + 1) + voter
    _, first, inverse, times = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, score) / times
    order = np.argsort(first)
    return Cells(mean[order], _numbered(prompt[first[order]]), _numbered(voter[first[order]]))


def voter_mean(cells: Cells) -> VoterMean:
    """The mean over voters of their means over prompts, with its variances."""
    if not len(cells):
        return VoterMean(float("nan"), 0, 0, 0, *(float("nan"),) * 4)
    score, prompt, voter = cells.score, cells.prompt, cells.voter
    votes = np.bincount(voter).astype(float)
    points = np.bincount(voter, score)
    weight = 1 / votes[voter]
    stretch = np.where(votes > 1, votes / np.maximum(votes - 1, 1), 0.0)[voter]
    centred = weight * stretch * (score - (points / votes)[voter])
    return from_sums(
        VoteSums(
            votes=votes,
            points=points,
            squares=np.bincount(voter, score**2),
            weight=np.bincount(prompt, weight),
            score=np.bincount(prompt, weight * score),
            centred=np.bincount(prompt, centred),
        )
    )


def from_sums(sums: VoteSums) -> VoterMean:
    """The mean and its variances from sums by voter and by prompt; the leading axes are runs."""
    votes = sums.votes
    has = votes > 0
    some = np.maximum(votes, 1)
    voters, prompts = has.sum(-1), (sums.weight > 0).sum(-1)
    own = sums.points / some
    mean = (own * has).sum(-1) / np.maximum(voters, 1)
    off = np.where(has, own - np.asarray(mean)[..., None], 0.0)
    within = np.maximum(sums.squares - sums.points**2 / some, 0.0) / some**2
    by_prompt = ((sums.score - np.asarray(mean)[..., None] * sums.weight) ** 2).sum(-1) * _unbiased(prompts)
    by_voter = (off**2).sum(-1) * _unbiased(voters)
    by_vote = (within + off**2 / some).sum(-1) * _unbiased(votes.sum(-1))
    own_variance = _own_variance(sums, off, within)
    two_way = by_prompt + by_voter - by_vote
    variance = np.maximum(np.maximum(by_prompt, by_voter), np.maximum(two_way, own_variance))
    scale = np.maximum(voters, 1) ** 2
    return VoterMean(
        mean=mean,
        votes=votes.sum(-1),
        voters=voters,
        prompts=prompts,
        variance=variance / scale,
        own_variance=own_variance / scale,
        freedom=np.maximum(np.minimum(voters, prompts) - 1, 1),
        own_freedom=np.maximum(_effective_prompts(sums, has, some) - 1, 1),
    )


def _own_variance(sums: VoteSums, off: np.ndarray, within: np.ndarray) -> np.ndarray:
    """(voters²) times the variance for these people: clustered by prompt, around each voter's own mean.

    A voter's part is at least that of the same votes with one more win and one more loss: a voter who has always
    chosen the same is not certain to do so again.
    """
    votes = sums.votes
    some = np.maximum(votes, 1)
    stretch = np.where(votes > 1, some / np.maximum(some - 1, 1), 0.0)
    smoothed = ((sums.squares + 1) / (some + 2) - ((sums.points + 1) / (some + 2)) ** 2) / some
    # A voter with one vote has no spread around their own mean; the distance from the overall mean is larger.
    alone = np.where(votes == 1, off**2, 0.0)
    part = np.where(votes > 0, np.maximum(np.maximum(within * stretch, alone), smoothed), 0.0).sum(-1)
    shared = (sums.centred**2).sum(-1) - (within * stretch**2).sum(-1)
    return part + np.maximum(shared, 0.0)


def _effective_prompts(sums: VoteSums, has: np.ndarray, some: np.ndarray) -> np.ndarray:
    """The effective number of prompts or of votes (as many with equal weights), whichever is smaller."""
    by_prompt = sums.weight**2
    prompts = by_prompt.sum(-1) ** 2 / np.maximum((by_prompt**2).sum(-1), 1e-300)
    inverse = np.where(has, 1 / some, 0.0)
    votes = inverse.sum(-1) ** 2 / np.maximum((inverse**3).sum(-1), 1e-300)
    return np.minimum(prompts, votes)


def interval(found: VoterMean, scope: Scope, level: float = 0.95) -> tuple[Numbers, Numbers]:
    """The interval of the win rate: Wilson's on the effective number of votes; 0 to 1 if it is not known.

    If every vote is the same, it is the exact one (Clopper & Pearson 1934) on the number of clusters.
    """
    variance, freedom, clusters = found.of(scope)
    mean, tail = np.asarray(found.mean, float), (1 - level) / 2
    n = _effective_votes(mean, variance, clusters)
    q = student.isf(tail, freedom)
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = (mean + q**2 / (2 * n)) / (1 + q**2 / n)
        width = q / (1 + q**2 / n) * np.sqrt(mean * (1 - mean) / n + q**2 / (4 * n**2))
        exact = tail ** (1 / np.maximum(np.asarray(clusters, float), 1))
    low = np.where(mean >= 1, exact, np.where(mean <= 0, 0.0, np.maximum(centre - width, 0.0)))
    high = np.where(mean <= 0, 1 - exact, np.where(mean >= 1, 1.0, np.minimum(centre + width, 1.0)))
    known = np.isfinite(mean) & (np.asarray(clusters) >= 2)
    known = known & (True if scope == "these people" else np.asarray(found.voters) >= MIN_VOTERS)
    return np.where(known, low, 0.0), np.where(known, high, 1.0)


def log_evidence(found: VoterMean, scope: Scope, chance: float = 0.5) -> Numbers:
    """The log of the e-value against a win rate of `chance`, which may be read after every vote.

    It is the Beta(10, 10) mixture over a coin on the effective number of votes: votes discounted by the design effects
    of prompts and voters. With few clusters, the discount grows by as much as Student's t is wider than the normal
    distribution (Wallace 1959). For people like them no e-value can exceed one fair bet per voter, halved for the two
    directions: five unanimous voters are not enough for 20.
    """
    variance, freedom, clusters = found.of(scope)
    mean = np.asarray(found.mean, float)
    n = _effective_votes(mean, variance, clusters if scope == "these people" else found.votes)
    square = n * (mean - chance) ** 2 / (chance * (1 - chance))
    with np.errstate(invalid="ignore", divide="ignore"):
        shrink = _normal_square(square, freedom) / square
    n = n * np.where(square > 0, shrink, 1.0)
    evidence = log_mixture(n * mean, n * (1 - mean), chance)
    if scope == "people like them":
        bets = np.asarray(found.voters) * -log(min(chance, 1 - chance)) - log(2)
        evidence = np.where(np.asarray(found.voters) >= MIN_VOTERS, np.minimum(evidence, bets), -np.inf)
    return np.where(np.isfinite(mean), evidence, 0.0)


def log_mixture(wins: Numbers, losses: Numbers, chance: float = 0.5) -> Numbers:
    """The log of the Beta(10, 10) mixture's likelihood ratio against a coin of this chance.

    Anytime-valid also for scores between 0 and 1 (a tie as half of each): the ratio is convex in the score.
    """
    mixture = betaln(_PRIOR + wins, _PRIOR + losses) - betaln(_PRIOR, _PRIOR)
    return mixture - wins * log(chance) - losses * log(1 - chance)


def _effective_votes(mean: Numbers, variance: Numbers, clusters: Numbers) -> Numbers:
    """How many independent decisive votes have this variance; the number of clusters if every vote is the same."""
    inside = (mean > 0) & (mean < 1) & (np.asarray(variance) > 0)
    return np.where(inside, mean * (1 - mean) / np.where(inside, variance, 1.0), np.maximum(clusters, 1))


def _normal_square(square: Numbers, freedom: Numbers) -> Numbers:
    """The square of the normal deviate that is as unlikely as this square of Student's t."""
    freedom = np.asarray(freedom, float)
    return ((8 * freedom + 1) / (8 * freedom + 3)) ** 2 * freedom * np.log1p(square / freedom)


def _unbiased(clusters: Numbers) -> Numbers:
    return np.asarray(clusters, float) / np.maximum(np.asarray(clusters, float) - 1, 1)


def _numbered(codes: np.ndarray) -> np.ndarray:
    return np.unique(codes, return_inverse=True)[1].astype(np.int64)
