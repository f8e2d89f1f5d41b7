"""Win rates by category of prompts, with clustered intervals: where a model is better, not only whether.

A category under 20 prompts or 30 votes says that it is no evidence. Votes in, frozen rows out.
"""

from dataclasses import dataclass

import numpy as np

from evals.intervals import share_interval
from evals.ratings.verdict import MIN_PROMPTS, MIN_VOTES
from evals.votes.votes import StoredVotes, Votes


@dataclass(frozen=True)
class CategoryRate:
    """One model in one category: what it won of its votes, ties as half, with a 95 % interval clustered by prompt.

    `category` is "" for prompts that have none. `enough`: 30 votes on 20 prompts or more.
    """

    category: str
    model: str
    win_rate: float
    low: float
    high: float
    votes: int
    prompts: int
    enough: bool


def category_rates(stored: StoredVotes) -> tuple[CategoryRate, ...]:
    """Each model against all others, in each category that has votes; by category, then the best first."""
    found = []
    for number in np.unique(stored.category):
        votes = stored.votes.where(stored.category == number)
        name = stored.categories[number] if number >= 0 else ""
        rows = [_rate(name, model, *_of_model(votes, i)) for i, model in enumerate(votes.models) if _played(votes, i)]
        found += sorted(rows, key=lambda row: (-row.win_rate, row.model))
    return tuple(sorted(found, key=lambda row: (row.category == "", row.category)))


def duel_by_category(stored: StoredVotes, model_a: str, model_b: str) -> tuple[CategoryRate, ...]:
    """`model_a` against `model_b` alone, in each category in which they met."""
    found = []
    for number in np.unique(stored.category):
        votes = stored.votes.where(stored.category == number).between(model_a, model_b)
        if len(votes):
            name = stored.categories[number] if number >= 0 else ""
            found.append(_rate(name, model_a, votes.score, votes.prompt))
    return tuple(sorted(found, key=lambda row: (row.category == "", row.category)))


def _played(votes: Votes, model: int) -> bool:
    return bool(((votes.first == model) | (votes.second == model)).any())


def _of_model(votes: Votes, model: int) -> tuple[np.ndarray, np.ndarray]:
    mine = (votes.first == model) | (votes.second == model)
    return np.where(votes.first[mine] == model, votes.score[mine], 1 - votes.score[mine]), votes.prompt[mine]


def _rate(category: str, model: str, score: np.ndarray, prompt: np.ndarray) -> CategoryRate:
    share = share_interval(score.tolist(), prompt.tolist())
    enough = share.n >= MIN_VOTES and share.clusters >= MIN_PROMPTS
    return CategoryRate(category, model, share.mean, share.low, share.high, share.n, share.clusters, enough)
