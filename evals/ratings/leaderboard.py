"""The leaderboard: stored votes in, rated models with intervals out, and one paragraph in plain words.

What is shown and how is the page's and the command line's; how it is computed is `evals.ratings.bradley_terry`'s.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np

from evals.ratings.bradley_terry import Cluster, Rating, count, rate, strengths
from evals.ratings.category_win_rates import CategoryRate, category_rates
from evals.ratings.leaderboard_notes import board_notes
from evals.ratings.robustness import Turning, turn_rating
from evals.ratings.style_control import COVARIATES, StyleControl, control, read_styles
from evals.ratings.verdict import MIN_PROMPTS, MIN_VOTES, compare
from evals.ratings.voter_agreement import Agreement, agreement
from evals.votes.votes import Votes, stored_votes
from models.database import Database


@dataclass(frozen=True)
class RatedModel:
    """One row: rating and interval on the Elo scale, the range of ranks that the votes allow (1 is best).

    `enough`: 30 votes or more on 20 prompts or more, and connected with the rest by comparisons. `without_ties` is
    the rating from decisive votes alone; `styled` with its interval is the rating with length and Markdown held
    equal; each None where there is no such rating.
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
    without_ties: float | None = None
    styled: float | None = None
    styled_low: float | None = None
    styled_high: float | None = None


@dataclass(frozen=True)
class StyleEffect:
    """What one standard deviation more of tokens, headers, lists or bold is worth in Elo, with its 95 % interval.

    What all answers have alike is left out.
    """

    covariate: str
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Leaderboard:
    """Models, the best first. `win_rates[i][j]` is what row i won against row j, ties as half; None without votes.

    `clustered_by` says what intervals are clustered by; `votes_needed` belongs to the two in front. `both_bad`: the
    ties of which the voter said so. `turning`: how many votes would put the second level with the first.
    `style_votes`: how many votes the style-controlled ratings rest on. `notes`: what a reader should know, as
    sentences.
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
    both_bad: int = 0
    agreement: Agreement | None = None
    turning: Turning | None = None
    style_votes: int = 0
    style: tuple[StyleEffect, ...] = ()
    categories: tuple[CategoryRate, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The leaderboard as plain JSON values."""
        return asdict(self)


def leaderboard(database: Database, category: str | None = None) -> Leaderboard:
    """The rating of all stored votes; of one category of prompts where it is given."""
    stored = stored_votes(database, category)
    if not len(stored.votes):
        return rank(stored.votes)
    styles = read_styles(database, stored.pair_ids)[stored.votes.units]
    asked = stored_votes(database, category, repeats=True).votes
    return rank(stored.votes, styles, category_rates(stored), asked)


def rank(
    votes: Votes,
    styles: np.ndarray | None = None,
    categories: tuple[CategoryRate, ...] = (),
    asked: Votes | None = None,
) -> Leaderboard:
    """The leaderboard of these votes: pure.

    Args:
        styles: (n, 4), each vote's style difference as in `style_control`; without it nothing is controlled for.
        categories: rows to show beside it.
        asked: the votes with those that were asked for twice, for how far people agree; without it, `votes`.
    """
    if not len(votes):
        return Leaderboard((), (), 0, 0, 0, None, None, False, MIN_VOTES, "No votes yet: there is nothing to say.")
    rated = rate(votes)
    order = np.argsort(-rated.rating, kind="stable")
    prompts = _prompts_by_model(votes)
    rows = tuple(_row(rated, int(i), int(prompts[i])) for i in order)
    enough = rated.connected and sum(row.enough for row in rows) >= 2
    verdict, needed = _in_words(votes, rows, rated, enough)
    styled = _style_controlled(votes, styles, rated)
    rows = _beside(rows, rated, _without_ties(votes, rated), styled)
    board = Leaderboard(
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
        both_bad=0 if votes.both_bad is None else int(votes.both_bad.sum()),
        agreement=agreement(votes if asked is None else asked),
        turning=turn_rating(votes, rows[0].model, rows[1].model) if enough else None,
        style_votes=styled.votes if styled else 0,
        style=_effects(styled),
        categories=categories,
    )
    return replace(board, notes=board_notes(board))


def _without_ties(votes: Votes, rated: Rating) -> np.ndarray | None:
    """Ratings from decisive votes; None where there are no ties, or the rest does not hold together."""
    decisive = np.flatnonzero(votes.score != 0.5)
    if len(decisive) in (0, len(votes)):
        return None
    found = rate(votes.where(decisive), cluster=None)
    return found.rating if found.connected and rated.connected else None


def _style_controlled(votes: Votes, styles: np.ndarray | None, rated: Rating) -> StyleControl | None:
    """None where under 30 votes are on texts that are known, or those do not tie all models together."""
    if styles is None or not rated.connected:
        return None
    known = np.flatnonzero(~np.isnan(styles).any(axis=1))
    if len(known) < MIN_VOTES or int(strengths(count(votes.where(known)))[1].max()) > 0:
        return None
    return control(votes, styles, cluster=cast(Cluster, rated.clustered_by))


def _effects(styled: StyleControl | None) -> tuple[StyleEffect, ...]:
    if styled is None:
        return ()
    numbers = zip(COVARIATES, styled.effect, styled.effect_low, styled.effect_high, styled.varies, strict=True)
    return tuple(
        StyleEffect(name, float(effect), float(low), float(high))
        for name, effect, low, high, varies in numbers
        if varies
    )


def _beside(
    rows: tuple[RatedModel, ...], rated: Rating, without_ties: np.ndarray | None, styled: StyleControl | None
) -> tuple[RatedModel, ...]:
    """The rows with the two other ratings beside the raw one."""
    found = []
    for row in rows:
        i = rated.models.index(row.model)
        if without_ties is not None:
            row = replace(row, without_ties=float(without_ties[i]))
        if styled is not None:
            low, high = float(styled.low[i]), float(styled.high[i])
            row = replace(row, styled=float(styled.rating[i]), styled_low=low, styled_high=high)
        found.append(row)
    return tuple(found)


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
        lead = (
            f"{first.model} leads: its rating is above every other's by more than chance (read once, not all the time)."
        )
    else:
        rivals = [row.model for row in rows if row.rank_low == 1 and row is not first]
        lead = f"The lead of {first.model} is not settled: {', '.join(rivals[:3]) or 'another'} may be as good."
    unsure = len(rows) - len(sure)
    rest = f" {unsure} of {len(rows)} models have too few votes to be placed." if unsure else ""
    few = " The votes are one person's." if len(np.unique(votes.voter)) == 1 else ""
    return f"{lead} Head to head: {duel.text}{rest}{few}", duel.votes_needed
