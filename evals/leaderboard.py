"""The leaderboard: stored votes in, rated models with intervals out, and one paragraph in plain words.

What is shown and how is the page's and the command line's; how it is computed is `evals.rating`'s.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evals.rating import Rating, count, rate
from evals.verdict import MIN_PROMPTS, MIN_VOTES, compare
from evals.votes import Votes, read_votes
from models.database import Database


@dataclass(frozen=True)
class RatedModel:
    """One row: rating and interval on the Elo scale, the range of ranks that the votes allow (1 is best).

    `enough`: 30 votes or more on 20 prompts or more, and connected with the rest by comparisons.
    """

    model: str
    rating: float
    low: float
    high: float
    rank_low: int
    rank_high: int
    votes: int
    wins: int
    losses: int
    ties: int
    prompts: int
    enough: bool


@dataclass(frozen=True)
class Leaderboard:
    """Models, the best first. `win_rates[i][j]` is what row i won against row j, ties as half; None without votes.

    `clustered_by` says what intervals are clustered by; `votes_needed` belongs to the two in front.
    """

    rows: tuple[RatedModel, ...]
    win_rates: tuple[tuple[float | None, ...], ...]
    votes: int
    prompts: int
    voters: int
    tie_rate: float | None
    clustered_by: str | None
    enough: bool
    votes_needed: int
    verdict: str

    def to_json(self) -> dict[str, Any]:
        """The leaderboard as plain JSON values."""
        return asdict(self)


def leaderboard(database: Database, category: str | None = None) -> Leaderboard:
    """The rating of all stored votes; of one category of prompts where it is given."""
    return rank(read_votes(database, category))


def rank(votes: Votes) -> Leaderboard:
    """The leaderboard of these votes: pure."""
    if not len(votes):
        return Leaderboard((), (), 0, 0, 0, None, None, False, MIN_VOTES, "No votes yet: there is nothing to say.")
    rated = rate(votes)
    order = np.argsort(-rated.rating, kind="stable")
    prompts = _prompts_by_model(votes)
    rows = tuple(_row(rated, int(i), int(prompts[i])) for i in order)
    enough = rated.connected and sum(row.enough for row in rows) >= 2
    verdict, needed = _in_words(votes, rows, rated, enough)
    return Leaderboard(
        rows=rows,
        win_rates=_win_rates(votes, order),
        votes=len(votes),
        prompts=len(np.unique(votes.prompt)),
        voters=len(np.unique(votes.voter)),
        tie_rate=float((votes.score == 0.5).mean()),
        clustered_by=rated.clustered_by,
        enough=enough,
        votes_needed=needed,
        verdict=verdict,
    )


def _row(rated: Rating, i: int, prompts: int) -> RatedModel:
    return RatedModel(
        model=rated.models[i],
        rating=float(rated.rating[i]),
        low=float(rated.low[i]),
        high=float(rated.high[i]),
        rank_low=int(rated.rank_low[i]),
        rank_high=int(rated.rank_high[i]),
        votes=int(rated.votes[i]),
        wins=int(rated.wins[i]),
        losses=int(rated.losses[i]),
        ties=int(rated.ties[i]),
        prompts=prompts,
        enough=rated.connected and int(rated.votes[i]) >= MIN_VOTES and prompts >= MIN_PROMPTS,
    )


def _prompts_by_model(votes: Votes) -> np.ndarray:
    both = np.concatenate([votes.first, votes.second])
    seen = np.unique(both * (int(votes.prompt.max()) + 1) + np.concatenate([votes.prompt, votes.prompt]))
    return np.bincount(seen // (int(votes.prompt.max()) + 1), minlength=len(votes.models))


def _win_rates(votes: Votes, order: np.ndarray) -> tuple[tuple[float | None, ...], ...]:
    points = count(votes).points[np.ix_(order, order)]
    met = points + points.T
    return tuple(
        tuple(float(points[i, j] / met[i, j]) if met[i, j] else None for j in range(len(order)))
        for i in range(len(order))
    )


def _in_words(votes: Votes, rows: tuple[RatedModel, ...], rated: Rating, enough: bool) -> tuple[str, int]:
    """One paragraph, and about how many more votes the two in front need."""
    if not rated.connected:
        groups = int(rated.part.max()) + 1
        return (
            f"Not enough evidence: the models fall into {groups} groups that were never compared with each other.",
            MIN_VOTES,
        )
    if not enough:
        short = sum(max(0, MIN_VOTES - row.votes) for row in rows)
        needs = f"Each model needs {MIN_VOTES} votes on {MIN_PROMPTS} prompts before its rating says anything"
        return f"Not enough evidence yet. {needs}.", max(1, (short + 1) // 2)
    sure = [row for row in rows if row.enough]
    first, second = sure[0], sure[1]
    duel = compare(votes, first.model, second.model)
    if first.rank_high == 1:
        lead = f"{first.model} leads: its rating is above every other's by more than chance."
    else:
        rivals = [row.model for row in rows if row.rank_low == 1 and row is not first]
        lead = f"The lead of {first.model} is not settled: {', '.join(rivals[:3]) or 'another'} may be as good."
    unsure = len(rows) - len(sure)
    rest = f" {unsure} of {len(rows)} models have too few votes to be placed." if unsure else ""
    few = " The votes are one person's." if len(np.unique(votes.voter)) == 1 else ""
    return f"{lead} {duel.text}{rest}{few}", duel.votes_needed
