"""Win rates by category of prompts, as a verdict computes them: the average voter's. Votes in, frozen rows out.

A category with fewer than 20 prompts or 30 votes is marked as not enough evidence.
"""

from dataclasses import dataclass

import numpy as np

from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES
from evals.ratings.voter_means import MIN_VOTERS, cells_of, interval, voter_mean
from evals.votes.votes import StoredVotes, Votes


@dataclass(frozen=True)
class CategoryRate:
    """One model's win rate in one category, ties as half, with its 95 % interval.

    It holds for people like the voters from five voters on, else for these people.
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
            rates.append(_rate(name, model_a, votes.score, votes))
    return tuple(sorted(rates, key=lambda row: (row.category == "", row.category)))


def _has_votes(votes: Votes, model: int) -> bool:
    return bool(((votes.first == model) | (votes.second == model)).any())


def _of_model(votes: Votes, model: int) -> tuple[np.ndarray, Votes]:
    mine = votes.where((votes.first == model) | (votes.second == model))
    return np.where(mine.first == model, mine.score, 1 - mine.score), mine


def _rate(category: str, model: str, score: np.ndarray, votes: Votes) -> CategoryRate:
    cells = cells_of(score, votes.prompt, votes.voter)
    found = voter_mean(cells)
    low, high = interval(found, "people like them" if found.voters >= MIN_VOTERS else "these people")
    enough = len(cells) >= MIN_VOTES and int(found.prompts) >= MIN_PROMPTS
    return CategoryRate(
        category, model, float(found.mean), float(low), float(high), len(votes), int(found.prompts), enough
    )
