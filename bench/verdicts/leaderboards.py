"""How often the leaderboard's intervals contain the truth, if voters and prompts differ in their preferences."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bench.evals.coverage import Coverage
from evals.ratings.bradley_terry import ELO, MEAN, fit, rate
from evals.ratings.simulated_votes import logistic
from evals.ratings.voter_means import MIN_VOTERS
from evals.votes.votes import Votes

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(21)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


@dataclass(frozen=True)
class BoardWorld:
    """Each voter judges a random pair of models on each prompt; `one_has_60`: the others have 40 % of all votes.

    The spreads are of the difference between two models' strengths, in log-odds, over voters and over prompts.
    """

    models: int
    voters: int
    prompts: int
    voter_sd: float
    prompt_sd: float
    one_has_60: bool = False


@dataclass(frozen=True)
class BoardCoverage:
    """The share of intervals that contain the truth, and their mean width in widths of an oracle's.

    The truth is over all people, under five voters over those who voted.
    """

    world: BoardWorld
    runs: int
    covered: float
    width: float

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return asdict(self)


def board_coverage(world: BoardWorld, runs: int, seed: int = 0) -> BoardCoverage:
    """Simulates that many leaderboards; runs whose models are not connected are left out."""
    rng = np.random.default_rng(seed)
    intervals, errors = Coverage(), []
    for _ in range(runs):
        votes, truth = _draw(world, rng)
        rated = rate(votes, equal_voters=True)
        if rated.connected:
            intervals.add(rated.low, rated.high, truth)
            errors.append(((rated.rating - truth) ** 2).mean())
    oracle = 2 * 1.959964 * float(np.sqrt(np.mean(errors)))
    return BoardCoverage(world, len(errors), intervals.covered, intervals.width / oracle)


def _draw(world: BoardWorld, rng: np.random.Generator) -> tuple[Votes, np.ndarray]:
    m = world.models
    strength = rng.normal(0, 0.5, m)
    strength -= strength.mean()
    # The difference of two models' effects has the world's spread.
    of_voter = rng.normal(0, world.voter_sd / np.sqrt(2), (world.voters, m))
    of_prompt = rng.normal(0, world.prompt_sd / np.sqrt(2), (world.prompts, m))
    voter, prompt = (code.ravel() for code in np.indices((world.voters, world.prompts)))
    if world.one_has_60:
        others = rng.permutation(np.flatnonzero(voter > 0))[: round(world.prompts / 1.5)]
        cast = np.r_[np.flatnonzero(voter == 0), others]
        voter, prompt = voter[cast], prompt[cast]
    pairs = np.stack(np.triu_indices(m, 1))
    first, second = pairs[:, rng.integers(0, pairs.shape[1], len(voter))]
    edge = (strength + of_voter[voter] + of_prompt[prompt])[np.arange(len(voter)), first]
    edge = edge - (strength + of_voter[voter] + of_prompt[prompt])[np.arange(len(voter)), second]
    won = (rng.random(len(voter)) < logistic(edge)).astype(float)
    votes = Votes(tuple(f"m{i}" for i in range(m)), first, second, won, prompt, voter)
    if world.voters >= MIN_VOTERS:
        expected = _expected(strength, float(np.hypot(world.voter_sd, world.prompt_sd)))
    else:
        expected = np.mean([_expected(strength + own, world.prompt_sd) for own in of_voter], axis=0)
    np.fill_diagonal(expected, 0.0)
    return votes, MEAN + ELO * fit(expected, np.zeros(m, dtype=int))


def _expected(strength: np.ndarray, spread: float) -> np.ndarray:
    """(m, m): the expected wins of row over column."""
    return logistic((strength[:, None] - strength[None, :])[..., None] + spread * _NODES) @ _WEIGHTS
