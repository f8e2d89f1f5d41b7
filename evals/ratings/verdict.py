"""The verdict on two models: the average voter's win rate, for whom it holds, and a state.

`compare` may be read after every vote: its state comes from an e-value (`voter_means.log_evidence`), since a 95 % test
that is checked after every vote is wrong far more often than 5 %. `planned_verdict` is read once, when a campaign
closes: size and margin were fixed before the first vote, so it uses intervals and finds more. "Better" and "worse" are
wrong in 5 % together, "at least as good" in 5 %.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import ceil, sqrt

import numpy as np

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.ratings.verdict_states import (
    E_STOP,
    MARGIN,
    MIN_PROMPTS,
    MIN_VOTES,
    UNDECIDED,
    Rule,
    ScopedVerdict,
    State,
    scoped_verdict,
)
from evals.ratings.verdict_text import verdict_text
from evals.ratings.verdict_types import MAX_FORECAST, PlannedLook, Verdict
from evals.ratings.voter_means import (
    MIN_VOTERS,
    Cells,
    Scope,
    VoterMean,
    cells_of,
    log_mixture,
    voter_mean,
)
from evals.ratings.voter_results import decisive_voters, results_by_voter
from evals.votes.imports.rows import UNKNOWN_VOTER
from evals.votes.votes import Votes, read_votes
from models.database import Database

__all__ = (
    "E_STOP", "MARGIN", "MIN_PROMPTS", "MIN_VOTES", "PlannedLook", "State", "Verdict", "compare", "log_mixture",
    "planned_verdict", "verdict", "votes_for_power",
)  # fmt: skip


def verdict(
    database: Database, model_a: str, model_b: str, category: str | None = None, campaign: str = OPEN_CAMPAIGN
) -> Verdict:
    """The verdict from the votes of a campaign, or from those on one category of prompts."""
    return compare(read_votes(database, category, campaign), model_a, model_b)


def compare(votes: Votes, model_a: str, model_b: str, margin: float = MARGIN) -> Verdict:
    """The verdict from these votes, in the order in which they were cast; its state may be read after every vote."""
    return _verdict(votes.between(model_a, model_b), Rule("anytime", margin), None)


def planned_verdict(votes: Votes, model_a: str, model_b: str, plan: PlannedLook) -> Verdict:
    """The verdict of a campaign that closes; it holds only if nobody decided earlier because of these votes."""
    return _verdict(votes.between(model_a, model_b), Rule("planned", plan.margin), plan)


def votes_for_power(win_rate: float) -> int:
    """Decisive votes for 80 % power at a two-sided 5 %: 783 for 55 %, 194 for 60 %, 85 for 65 %, 47 for 70 %."""
    gap = abs(win_rate - 0.5)
    if gap == 0:
        return MAX_FORECAST
    return min(MAX_FORECAST, ceil(((1.959964 / 2 + 0.841621 * sqrt(win_rate * (1 - win_rate))) / gap) ** 2))


def _verdict(between: Votes, rule: Rule, plan: PlannedLook | None) -> Verdict:
    cells = cells_of(between.score, between.prompt, between.voter)
    found = voter_mean(cells)
    own = scoped_verdict(found, len(cells), "these people", rule)
    people = scoped_verdict(found, len(cells), "people like them", rule) if found.voters >= MIN_VOTERS else None
    headline = people or own
    state = people.state if people else UNDECIDED
    state_of = partial(_state_of, scope=headline.scope, rule=replace(rule, voters=2))
    undone = _votes_to_undo(cells, found, state_of) if headline.state in ("better", "worse") else (None, None)
    wins, losses = int((between.score == 1).sum()), int((between.score == 0).sum())
    needed, more_voters = _still_needed(found, cells, headline, rule) if rule.look == "anytime" else (0, 0)
    draft = Verdict(
        model_a=between.models[0],
        model_b=between.models[1],
        state=state,
        win_rate=float(found.mean) if len(cells) else None,
        low=headline.low,
        high=headline.high,
        wins=wins,
        losses=losses,
        ties=len(between) - wins - losses,
        prompts=int(found.prompts),
        voters=int(found.voters),
        e_value=headline.e_value if people else 1.0,
        votes_needed=needed,
        undone_by_drop=undone[0] if people else None,
        undone_by_change=undone[1] if people else None,
        text="",
        scope=headline.scope,
        at_least_as_good=people is not None and people.at_least_as_good,
        within_margin=people is not None and people.within_margin,
        margin=rule.margin,
        look=rule.look,
        voters_missing=max(MIN_VOTERS - int(found.voters), 0),
        voters_needed=more_voters,
        these_people=own,
        people_like_them=people,
        by_voter=results_by_voter(between, cells),
        decisive_voters=decisive_voters(between, cells, headline.state, state_of),
        unknown_voters=_unnamed(between),
        planned_votes=plan.votes if plan else None,
    )
    return replace(draft, text=verdict_text(draft))


def _state_of(found: VoterMean, cells: int, scope: Scope, rule: Rule) -> State:
    return scoped_verdict(found, cells, scope, rule).state


def _unnamed(between: Votes) -> int:
    """How many votes name no voter."""
    if UNKNOWN_VOTER not in between.voters:
        return 0
    return int((between.voter == between.voters.index(UNKNOWN_VOTER)).sum())


def _votes_to_undo(cells: Cells, found: VoterMean, state_of: Callable[[VoterMean, int], State]) -> tuple[int, int]:
    """About the fewest of the winner's votes to remove, and to reverse, until the state changes.

    Votes with the largest weight go first, a voter's votes together; this many suffice.
    """
    state = state_of(found, len(cells))
    winning = cells.score > 0.5 if found.mean > 0.5 else cells.score < 0.5
    votes = np.bincount(cells.voter)
    order = np.lexsort((cells.voter, votes[cells.voter], ~winning))[: int(winning.sum())]

    def fewest(changed: Callable[[np.ndarray], Cells]) -> int:
        low, high = 0, len(order)
        while high - low > 1:
            middle = (low + high) // 2
            rest = changed(order[:middle])
            holds = state_of(voter_mean(rest), len(rest)) == state
            low, high = (middle, high) if holds else (low, middle)
        return high

    def without(some: np.ndarray) -> Cells:
        keep = np.ones(len(cells), bool)
        keep[some] = False
        return cells.where(keep)

    def reversed_(some: np.ndarray) -> Cells:
        score = cells.score.copy()
        score[some] = 1 - score[some]
        return replace(cells, score=score)

    return fewest(without), fewest(reversed_)


def _still_needed(found: VoterMean, cells: Cells, headline: ScopedVerdict, rule: Rule) -> tuple[int, int]:
    """About how many more votes settle the state if the trend continues, and how many more voters cast them.

    Further votes are assumed to come from more voters like these, on more prompts.
    """
    missing = max(MIN_VOTERS - int(found.voters), 0)
    if not len(cells):
        return votes_for_power(0.6), missing
    each = len(cells) / int(found.voters)
    if headline.state != UNDECIDED:
        return ceil(missing * each), missing
    short = max(MIN_VOTES - len(cells), MIN_PROMPTS - int(found.prompts), 1)

    def settled(times: float) -> bool:
        grown = VoterMean(
            mean=found.mean,
            votes=round(found.votes * times),
            voters=round(found.voters * times),
            prompts=max(round(found.prompts * times), MIN_PROMPTS),
            variance=found.variance / times,
            own_variance=found.own_variance / times,
            freedom=(found.freedom + 1) * times - 1,
            own_freedom=(found.own_freedom + 1) * times - 1,
        )
        shown = scoped_verdict(grown, max(round(len(cells) * times), MIN_VOTES), headline.scope, rule)
        return shown.state != UNDECIDED

    low, high = 1.0, 2.0
    while not settled(high) and high * len(cells) < MAX_FORECAST:
        low, high = high, high * 2
    while (high - low) * len(cells) > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    more = max(min(ceil(high * len(cells)), MAX_FORECAST) - len(cells), short)
    return more, max(missing, ceil(more / each) if headline.scope == "people like them" else 0)
