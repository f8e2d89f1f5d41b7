"""Win rates by category of prompts, with clustered intervals. Votes in, frozen rows out.

A category with fewer than 20 prompts or 30 votes is marked as not enough evidence.
"""

from dataclasses import dataclass

import numpy as np

from evals.intervals import share_interval
from evals.ratings.verdict import MIN_PROMPTS, MIN_VOTES
from evals.votes.votes import StoredVotes, Votes


@dataclass(frozen=True)
class CategoryRate:
    """One model's win rate in one category, ties as half, with a 95 % interval clustered by prompt.

    `category` is "" for prompts without one. `enough`: at least 30 votes on 20 prompts.
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
    """Each model against all others in each category that has votes, the best first."""
    rates = []
    for number in np.unique(stored.category):
        votes = stored.votes.where(stored.category == number)
        name = stored.categories[number] if number >= 0 else ""
        rows = [
            _rate(name, model, *_of_model(votes, i)) for i, model in enumerate(votes.models) if _has_votes(votes, i)
        ]
        rates += sorted(rows, key=lambda row: (-row.win_rate, row.model))
    return tuple(sorted(rates, key=lambda row: (row.category == "", row.category)))


def duel_by_category(stored: StoredVotes, model_a: str, model_b: str) -> tuple[CategoryRate, ...]:
    """`model_a` against `model_b` in each category with votes between them."""
    rates = []
    for number in np.unique(stored.category):
        votes = stored.votes.where(stored.category == number).between(model_a, model_b)
        if len(votes):
            name = stored.categories[number] if number >= 0 else ""
            rates.append(_rate(name, model_a, votes.score, votes.prompt))
    return tuple(sorted(rates, key=lambda row: (row.category == "", row.category)))


def _has_votes(votes: Votes, model: int) -> bool:
    return bool(((votes.first == model) | (votes.second == model)).any())


def _of_model(votes: Votes, model: int) -> tuple[np.ndarray, np.ndarray]:
    mine = (votes.first == model) | (votes.second == model)
    return np.where(votes.first[mine] == model, votes.score[mine], 1 - votes.score[mine]), votes.prompt[mine]


def _rate(category: str, model: str, score: np.ndarray, prompt: np.ndarray) -> CategoryRate:
    share = share_interval(score.tolist(), prompt.tolist())
    enough = share.n >= MIN_VOTES and share.clusters >= MIN_PROMPTS
    return CategoryRate(category, model, share.mean, share.low, share.high, share.n, share.clusters, enough)
