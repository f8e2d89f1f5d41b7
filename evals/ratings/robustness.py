"""How few votes, removed or reversed, would change the leader of a leaderboard.

Any vote may matter, even one between two other models (Min et al., ICML 2025, on rigging by such votes; Huang et al.
2025, arXiv:2508.11847, on dropping a handful). The most influential votes are found by their influence on the fit, and
each candidate is checked by fitting again.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb
from typing import Literal

import numpy as np

from evals.ratings.bradley_terry import Counts, Strengths, chances, count, information, strengths
from evals.votes.votes import Votes

Means = Literal["drop", "change"]
_TRIED, _WAYS = 3, 500  # up to this many votes every combination is tried, if there are not more combinations than this


@dataclass(frozen=True)
class Turning:
    """The fewest votes that bring `rival` level with `leader` or ahead: removed (`drop`), or reversed (`change`).

    None if no number of votes does. `votes` is the total.
    """

    leader: str
    rival: str
    votes: int
    drop: int | None
    change: int | None


def turn_rating(votes: Votes, leader: str, rival: str) -> Turning:
    """How few votes reverse the order of two rated models; both are in `votes.models`.

    The numbers are upper bounds: this many votes suffice. Up to three votes between a few models they are exact, since
    every combination is tried: influence is a first derivative and misses the joint effect of two votes.
    """
    a, b = votes.models.index(leader), votes.models.index(rival)
    return Turning(leader, rival, len(votes), _fewest(votes, a, b, "drop"), _fewest(votes, a, b, "change"))


def _fewest(votes: Votes, a: int, b: int, means: Means) -> int | None:
    tally = count(votes)
    fitted = strengths(tally)
    strength, part, _ = fitted
    if part[a] != part[b]:
        return None
    if strength[a] <= strength[b]:
        return 0
    gain = _gains(tally, fitted, (a, b), means).ravel()
    kinds = np.stack([tally.won, np.triu(tally.tied)])
    order = np.argsort(-gain, kind="stable")
    order = order[(gain[order] > 1e-12) & (kinds.ravel()[order] > 0)]
    there = kinds.ravel()[order]
    before = np.cumsum(there) - there

    def turned(votes_taken: int) -> bool:
        taken = np.zeros(kinds.size)
        taken[order] = np.clip(votes_taken - before, 0, there)
        return turned_by(taken)

    def turned_by(taken: np.ndarray) -> bool:
        new, parts, _ = strengths(_without(tally, taken.reshape(kinds.shape), gain.reshape(kinds.shape), means))
        return bool(parts[a] == parts[b] and new[a] <= new[b] + 1e-9)

    total = int(there.sum())
    high = 1
    while high < total and not turned(high):
        high *= 2
    high = min(high, total)
    if total == 0 or not turned(high):
        return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if turned(middle) else (middle, high)
    for fewer in range(1, min(high, _TRIED + 1)):
        choices = _choices(kinds.ravel(), fewer)
        if any(turned_by(taken) for taken in choices):
            return fewer
    return high


def _choices(there: np.ndarray, size: int) -> list[np.ndarray]:
    """Every combination of that many votes, by kind; empty if there are too many combinations."""
    present = np.flatnonzero(there > 0)
    if comb(len(present) + size - 1, size) > _WAYS:
        return []
    found = (np.bincount(one, minlength=len(there)) for one in combinations_with_replacement(present, size))
    return [taken.astype(float) for taken in found if (taken <= there).all()]


def _gains(tally: Counts, fitted: Strengths, duel: tuple[int, int], means: Means) -> np.ndarray:
    """(2, m, m): how much removing or reversing one vote "row beat column", or "row and column tied", reduces the lead.

    By the first derivative of the fit; for a reversed tie, the direction with the larger effect.
    """
    strength, part, extra = fitted
    chance = chances(strength)
    wins = tally.points + extra
    contrast = np.zeros(len(strength))
    contrast[list(duel)] = 1.0, -1.0
    effect = np.linalg.solve(information(wins + wins.T, chance, part), contrast)
    pull = effect[:, None] - effect[None, :]
    if means == "drop":
        return np.stack([(1 - chance) * pull, (0.5 - chance) * pull])
    return np.stack([pull, np.abs(pull) / 2])


def _without(tally: Counts, taken: np.ndarray, gain: np.ndarray, means: Means) -> Counts:
    """The counts after those votes were removed or reversed."""
    won, tied = tally.won - taken[0], tally.tied - taken[1] - taken[1].T
    if means == "change":
        # A tie becomes a win for the side that helps the rival.
        for_row = gain[0] < 0
        won = won + taken[0].T + np.where(for_row, taken[1], 0.0) + np.where(for_row, 0.0, taken[1]).T
    return Counts(won=won, tied=tied)
