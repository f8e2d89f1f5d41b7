"""Simulated votes with a known truth, as tables of (runs, voters, prompts): for a campaign's power, and for bench."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq

from evals.ratings.voter_means import VoteSums

Sharing = Literal["even", "uneven", "one has 60 %"]
_CELLS = 4_000_000  # in memory at once
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(61)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class World:
    """How votes are generated: a voter prefers the first model with log-odds `edge` + the voter's + the prompt's
    effect.

    `voter_sd` and `prompt_sd` are the standard deviations of those effects in log-odds, normally distributed.
    `sharing`: every voter votes on `votes_each` prompts, None: all ("even"); on 3 to all of them, log-uniformly
    ("uneven"); or the first on every prompt, and the others have 40 % of all votes between them. `ties`: the share of
    ties.
    """

    voters: int
    prompts: int
    voter_sd: float
    prompt_sd: float
    sharing: Sharing = "even"
    edge: float = 0.0
    ties: float = 0.0
    votes_each: int | None = None

    @property
    def truth(self) -> float:
        """The win rate over all people and all prompts."""
        spread = np.hypot(self.voter_sd, self.prompt_sd)
        return self.ties / 2 + (1 - self.ties) * float(logistic(self.edge + spread * _NODES) @ _WEIGHTS)

    def truth_of(self, voter: np.ndarray) -> np.ndarray:
        """The win rate of voters with these effects, over all prompts; any shape."""
        chance = logistic(self.edge + voter[..., None] + self.prompt_sd * _NODES) @ _WEIGHTS
        return self.ties / 2 + (1 - self.ties) * chance


@dataclass(frozen=True, eq=False)
class Tables:
    """Votes of many runs: `cast` marks the votes, `score` is 0 elsewhere; `own_truth` (runs,)."""

    cast: np.ndarray
    score: np.ndarray
    own_truth: np.ndarray

    def sums(self) -> VoteSums:
        """The sums that a verdict is computed from."""
        votes, points = self.cast.sum(2).astype(float), self.score.sum(2)
        weight = np.where(votes > 0, 1 / np.maximum(votes, 1), 0.0)
        stretch = np.where(votes > 1, votes / np.maximum(votes - 1, 1), 0.0) * weight
        own = points * weight
        return VoteSums(
            votes=votes,
            points=points,
            squares=(self.score**2).sum(2),
            weight=np.einsum("rvp,rv->rp", self.cast, weight),
            score=np.einsum("rvp,rv->rp", self.score, weight),
            centred=np.einsum("rvp,rv->rp", self.score, stretch) - np.einsum("rvp,rv->rp", self.cast, stretch * own),
        )


def logistic(odds: np.ndarray) -> np.ndarray:
    """The probability with these log-odds."""
    return 1 / (1 + np.exp(-odds))


def with_win_rate(world: World, rate: float) -> World:
    """The same world with that win rate over all people and all prompts.

    Raises:
        ValueError: this rate is impossible with that many ties.
    """
    edge: Any = brentq(lambda edge: replace(world, edge=edge).truth - rate, -20.0, 20.0)
    return replace(world, edge=float(edge))


def draw(world: World, runs: int, seed: int = 0) -> Iterator[Tables]:
    """The votes of that many runs, in blocks that fit in memory."""
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // (world.voters * world.prompts))
    for start in range(0, runs, block):
        yield _block(world, min(block, runs - start), rng)


def _block(world: World, runs: int, rng: np.random.Generator) -> Tables:
    shape = (runs, world.voters, world.prompts)
    voter = rng.normal(0, 1, shape[:2]) * world.voter_sd
    prompt = rng.normal(0, 1, (runs, world.prompts)) * world.prompt_sd
    cast = _cast(world, shape, rng)
    chance = logistic(world.edge + voter[:, :, None] + prompt[:, None, :])
    score = (rng.random(shape) < chance).astype(float)
    if world.ties:
        score[rng.random(shape) < world.ties] = 0.5
    took_part = cast.any(2)
    own_truth = (world.truth_of(voter) * took_part).sum(1) / took_part.sum(1)
    return Tables(cast.astype(float), np.where(cast, score, 0.0), own_truth)


def _cast(world: World, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
    runs, voters, prompts = shape
    if world.sharing == "even" and world.votes_each in (None, prompts):
        return np.ones(shape, bool)
    place = rng.random(shape).argsort(2)  # the order in which a voter sees the prompts
    if world.sharing == "even":
        return place < (world.votes_each or prompts)
    if world.sharing == "uneven":
        return place < np.exp(rng.uniform(np.log(3), np.log(prompts + 0.99), (runs, voters, 1))).astype(int)
    share, more = divmod(round(prompts / 1.5), voters - 1)
    each = np.r_[prompts, share + (np.arange(voters - 1) < more)]
    return place < each[None, :, None]
