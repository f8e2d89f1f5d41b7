"""The leaderboard's paragraph: which model leads, for whom that holds, and cycles of models that beat each other."""

import numpy as np

from evals.ratings.bradley_terry import Rating
from evals.ratings.leaderboard_types import RatedModel
from evals.ratings.verdict import Verdict, compare
from evals.ratings.verdict_states import MIN_PROMPTS, MIN_VOTES, UNDECIDED
from evals.ratings.voter_means import MIN_VOTERS, Scope, cells_of, interval, voter_mean
from evals.votes.votes import Votes
from models.quantities import count_noun

_MANY = 30  # models; no cycle is searched for among more
_NAMED = 3  # the most names in a list
_EQUAL = 0.01  # Elo points; a smaller difference is rounding of the fit


def scope_of(votes: Votes) -> Scope:
    """For whom intervals from these votes hold."""
    return "people like them" if np.count_nonzero(np.bincount(votes.voter)) >= MIN_VOTERS else "these people"


def leaderboard_verdict(
    votes: Votes, rows: tuple[RatedModel, ...], rated: Rating, cycle: tuple[str, ...]
) -> tuple[str, int]:
    """One paragraph, and about how many more votes the two leading models need."""
    if not rated.connected:
        groups = int(rated.part.max()) + 1
        return (
            f"Not enough evidence: the models form {groups} groups that were never compared with each other.",
            MIN_VOTES,
        )
    sure = [row for row in rows if row.enough]
    if len(sure) < 2:
        short = sum(max(0, MIN_VOTES - row.votes) for row in rows)
        needs = f"Each model needs {MIN_VOTES} votes on {MIN_PROMPTS} prompts before its rating is meaningful"
        return f"Not enough evidence yet. {needs}.", max(1, (short + 1) // 2)
    duel = compare(votes, sure[0].model, sure[1].model)
    versus = _head_to_head(sure[0], duel, len(rows))
    parts = [_lead(votes, rows, sure[0], duel), _circle(cycle), versus]
    if len(sure) < len(rows):
        parts.append(f"{len(rows) - len(sure)} of {len(rows)} models have too few votes for a rank.")
    if duel.text not in versus or duel.scope == "people like them":  # otherwise the head-to-head says it
        parts.append(_whom(votes))
    return " ".join(part for part in parts if part), duel.votes_needed


def find_cycle(votes: Votes) -> tuple[str, ...]:
    """Three or more models, each of which beats the next, and the last the first, by more than chance; or none."""
    m = len(votes.models)
    if not 3 <= m <= _MANY:
        return ()
    beats = np.zeros((m, m), dtype=bool)
    for a in range(m):
        for b in range(a + 1, m):
            duel = votes.between(votes.models[a], votes.models[b])
            cells = cells_of(duel.score, duel.prompt, duel.voter)
            if len(cells) >= MIN_VOTES:
                low, high = interval(voter_mean(cells), scope_of(duel))
                beats[a, b], beats[b, a] = low > 0.5, high < 0.5
    return tuple(votes.models[i] for i in _shortest_cycle(beats))


def _shortest_cycle(beats: np.ndarray) -> tuple[int, ...]:
    """The nodes of a shortest directed cycle, by a breadth-first search from each node."""
    best: tuple[int, ...] = ()
    for start in range(len(beats)):
        paths: list[tuple[int, ...]] = [(start,)]
        reached = {start}
        while paths and (not best or len(paths[0]) < len(best)):
            path = paths.pop(0)
            if beats[path[-1], start]:
                best = path
                break
            for after in np.flatnonzero(beats[path[-1]]).tolist():
                if after not in reached:
                    reached.add(after)
                    paths.append((*path, after))
    return best


def _lead(votes: Votes, rows: tuple[RatedModel, ...], first: RatedModel, duel: Verdict) -> str:
    who = ""
    if scope_of(votes) == "these people":
        who = "For this one person, " if np.count_nonzero(np.bincount(votes.voter)) == 1 else "For these people, "
    equal = [row.model for row in rows if abs(row.rating - first.rating) < _EQUAL]
    if len(equal) > 1:
        return f"{_listed(equal)} have the same rating."
    if first.rank_high == 1:
        if len(rows) == 2 and duel.headline.state != "better":  # the head-to-head says how sure that is
            return f"{who}{first.model} has the higher rating."
        return f"{who}{first.model} leads: its rating is higher than every other rating by more than chance."
    rivals = [row.model for row in rows if row.rank_low == 1 and row is not first]
    return f"{who}{first.model} has the highest rating, but {_listed(rivals) or 'another model'} may be as good."


def _listed(names: list[str]) -> str:
    """At most three names: "a, b and c"."""
    some = [*names[: _NAMED - 1], f"{len(names) - _NAMED + 1} others"] if len(names) > _NAMED else names
    return " and ".join([", ".join(some[:-1]), some[-1]] if len(some) > 1 else some)


def _circle(cycle: tuple[str, ...]) -> str:
    if not cycle:
        return ""
    links = [f"{a} beats {b}" for a, b in zip(cycle, (*cycle[1:], cycle[0]), strict=True)]
    return f"{', '.join(links[:-1])}, and {links[-1]}: this is a cycle, and no ranking can show it."


def _head_to_head(first: RatedModel, duel: Verdict, models: int) -> str:
    """The verdict on the two leading models alone, worded so that it does not contradict a lead from all votes."""
    if first.rank_high != 1 or models == 2 or duel.headline.state not in (UNDECIDED, "at least as good"):
        return f"Head to head: {duel.text}"
    if not duel.votes:
        return f"It was never compared with {duel.model_b} directly."
    many = count_noun(duel.votes, "vote")
    alone = f"The {many} between {duel.model_a} and {duel.model_b} alone"
    if duel.headline.state == UNDECIDED:
        return f"{alone} would not show this; votes on other models add evidence."
    shows = "shows" if duel.votes == 1 else "show"
    return f"{alone} {shows} only that {duel.model_a} is at least as good; votes on other models add evidence."


def _whom(votes: Votes) -> str:
    voters = np.count_nonzero(np.bincount(votes.voter))
    if voters >= MIN_VOTERS:
        return ""
    if voters == 1:
        return "All votes are from one person, so this says nothing about other people."
    least = f"it takes at least {MIN_VOTERS} to speak for others"
    return f"All votes are from {voters} people, so this is about them only: {least}."
