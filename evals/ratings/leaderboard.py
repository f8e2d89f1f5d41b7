"""The leaderboard: stored votes in, rated models with intervals out, and one paragraph of plain text.

`bradley_terry` computes the ratings; the page and the commands show them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.ratings.bradley_terry import Rating, count, rate, strengths
from evals.ratings.category_win_rates import CategoryRate, category_rates
from evals.ratings.leaderboard_notes import leaderboard_notes
from evals.ratings.leaderboard_types import Leaderboard, RatedModel, StyleEffect
from evals.ratings.leaderboard_verdict import find_cycle, leaderboard_verdict, scope_of
from evals.ratings.robustness import turn_rating
from evals.ratings.style_control import COVARIATES, StyleControl, control, read_styles
from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES
from evals.ratings.voter_agreement import agreement
from evals.ratings.voter_results import HALF
from evals.votes.votes import Votes, VoteSelection, stored_votes
from models.database import Database


def leaderboard(
    database: Database, category: str | None = None, campaign: str = OPEN_CAMPAIGN, *, open_links: bool = True
) -> Leaderboard:
    """The leaderboard of a campaign's votes, or of one category of prompts; `open_links` as in `read_votes`."""
    which = VoteSelection(category, campaign, open_links)
    stored = stored_votes(database, which)
    if not len(stored.votes):
        return rank(stored.votes)
    styles = read_styles(database, stored.pair_ids)[stored.votes.units]
    with_repeats = stored_votes(database, replace(which, repeats=True)).votes
    return rank(stored.votes, styles, category_rates(stored), with_repeats)


def rank(
    votes: Votes,
    styles: np.ndarray | None = None,
    categories: tuple[CategoryRate, ...] = (),
    with_repeats: Votes | None = None,
) -> Leaderboard:
    """The leaderboard of these votes; no database.

    Args:
        styles: (n, 4), each vote's style difference as in `style_control`; without it there is no style control.
        categories: win rates by category, passed through.
        with_repeats: the votes including repeated showings, for voter agreement; by default `votes`.
    """
    if not len(votes):
        return Leaderboard((), (), 0, 0, 0, None, None, False, MIN_VOTES, "There are no votes yet.")
    rated = rate(votes, equal_voters=True)
    order = np.argsort(-rated.rating, kind="stable")
    prompts = _prompts_by_model(votes)
    rows = tuple(_row(rated, int(i), int(prompts[i])) for i in order)
    enough = rated.connected and sum(row.enough for row in rows) >= 2
    cycle = find_cycle(votes)
    verdict, needed = leaderboard_verdict(votes, rows, rated, cycle)
    styled = _style_controlled(votes, styles, rated)
    rows = _with_other_ratings(rows, rated, _without_ties(votes, rated), styled)
    win_rates, comparisons = _win_rates(votes, order)
    board = Leaderboard(
        rows=rows,
        win_rates=win_rates,
        comparisons=comparisons,
        votes=len(votes),
        prompts=len(np.unique(votes.prompt)),
        voters=len(np.unique(votes.voter)),
        tie_rate=float((votes.score == 0.5).mean()),
        clustered_by=rated.clustered_by,
        enough=enough,
        votes_needed=needed,
        verdict=verdict,
        both_bad=0 if votes.both_bad is None else int(votes.both_bad.sum()),
        agreement=agreement(votes if with_repeats is None else with_repeats),
        turning=turn_rating(votes, rows[0].model, rows[1].model) if enough else None,
        style_votes=styled.votes if styled else 0,
        style=_effects(styled),
        categories=categories,
        scope=scope_of(votes),
        cycle=cycle,
        frequent_voter=_frequent_voter(votes),
    )
    return replace(board, notes=leaderboard_notes(board))


def _frequent_voter(votes: Votes) -> str | None:
    """The voter with at least half of all votes, if others voted too; None if two have half each."""
    times = np.bincount(votes.voter)
    most = int(times.argmax())
    if np.count_nonzero(times) < 2 or np.count_nonzero(times >= HALF * len(votes)) != 1:
        return None
    return votes.voter_name(most)


def _without_ties(votes: Votes, rated: Rating) -> np.ndarray | None:
    """Ratings from decisive votes; None if there are no ties, or those votes do not connect the models."""
    decisive = np.flatnonzero(votes.score != 0.5)
    if len(decisive) in (0, len(votes)):
        return None
    decisive_ratings = rate(votes.where(decisive), equal_voters=True)
    return decisive_ratings.rating if decisive_ratings.connected and rated.connected else None


def _style_controlled(votes: Votes, styles: np.ndarray | None, rated: Rating) -> StyleControl | None:
    """None if under 30 votes have known texts, or those votes do not connect the models."""
    if styles is None or not rated.connected:
        return None
    known = np.flatnonzero(~np.isnan(styles).any(axis=1))
    if len(known) < MIN_VOTES or int(strengths(count(votes.where(known)))[1].max()) > 0:
        return None
    return control(votes, styles, cluster="auto", equal_voters=True)


def _effects(styled: StyleControl | None) -> tuple[StyleEffect, ...]:
    if styled is None:
        return ()
    numbers = zip(COVARIATES, styled.effect, styled.effect_low, styled.effect_high, styled.varies, strict=True)
    return tuple(
        StyleEffect(name, float(effect), float(low), float(high))
        for name, effect, low, high, varies in numbers
        if varies
    )


def _with_other_ratings(
    rows: tuple[RatedModel, ...], rated: Rating, without_ties: np.ndarray | None, styled: StyleControl | None
) -> tuple[RatedModel, ...]:
    """The rows with the ratings without ties and with equal style."""
    rated_rows = []
    for row in rows:
        i = rated.models.index(row.model)
        if without_ties is not None:
            row = replace(row, without_ties=float(without_ties[i]))
        if styled is not None:
            low, high = float(styled.low[i]), float(styled.high[i])
            row = replace(row, styled=float(styled.rating[i]), styled_low=low, styled_high=high)
        rated_rows.append(row)
    return tuple(rated_rows)


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
    cells = np.unique(both * (int(votes.prompt.max()) + 1) + np.concatenate([votes.prompt, votes.prompt]))
    return np.bincount(cells // (int(votes.prompt.max()) + 1), minlength=len(votes.models))


def _win_rates(
    votes: Votes, order: np.ndarray
) -> tuple[tuple[tuple[float | None, ...], ...], tuple[tuple[int, ...], ...]]:
    """Win rates of row against column, and the number of votes for each."""
    points = count(votes).points[np.ix_(order, order)]
    compared = points + points.T
    rates = tuple(
        tuple(float(points[i, j] / compared[i, j]) if compared[i, j] else None for j in range(len(order)))
        for i in range(len(order))
    )
    return rates, tuple(tuple(round(float(number)) for number in row) for row in compared)
