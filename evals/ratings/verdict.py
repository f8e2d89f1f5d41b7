"""The verdict on two models: win rate, interval, and a state that may be checked after every vote.

A 95 % test that is checked after every vote is wrong far more often than 5 %. So "better" and "worse" come from an
e-value, the Beta(10, 10) mixture against a fair coin, which is valid at any time (Ville: without a difference it
reaches 20 with probability 1/20 at most). "No difference worth having" comes from the confidence sequence of the same
mixture. Both count one observation for each prompt and voter, discounted by the design effect of votes that share a
prompt.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import ceil, exp, log, sqrt
from typing import Any, Literal

import numpy as np
from scipy.special import betaln

from evals.intervals import design_effect, share_interval
from evals.votes.votes import Votes, read_votes
from models.database import Database

State = Literal["better", "worse", "no difference worth having", "not enough evidence"]
MIN_VOTES = 30
MIN_PROMPTS = 20
MARGIN = 0.05  # a win rate from 45 to 55 % is no meaningful difference
E_STOP = 20.0
_PRIOR = 10.0
_MAX_VOTES = 100_000  # beyond this a forecast is useless


@dataclass(frozen=True)
class Verdict:
    """Whether `model_a` is better than `model_b`. Rates are of `model_a`, a tie as half a win.

    `low` to `high` is a 95 % interval clustered by prompt, valid for one look; `state` is valid at any time.
    `votes_needed` is about how many more votes settle the state if the trend continues. `undone_by_drop` and
    `undone_by_change`: how many of the winner's votes would have to be removed, or reversed, for the state to be no
    longer "better" or "worse"; None where it is neither.
    """

    model_a: str
    model_b: str
    state: State
    win_rate: float | None
    low: float
    high: float
    wins: int
    losses: int
    ties: int
    prompts: int
    voters: int
    e_value: float
    votes_needed: int
    undone_by_drop: int | None
    undone_by_change: int | None
    text: str

    @property
    def votes(self) -> int:
        """All votes between the two."""
        return self.wins + self.losses + self.ties

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return asdict(self) | {"votes": self.votes}


def verdict(database: Database, model_a: str, model_b: str, category: str | None = None) -> Verdict:
    """The verdict from the stored votes, or from those on one category of prompts."""
    return compare(read_votes(database, category), model_a, model_b)


def compare(votes: Votes, model_a: str, model_b: str, margin: float = MARGIN) -> Verdict:
    """The verdict from these votes, in the order in which they were cast."""
    between = votes.between(model_a, model_b)
    wins, losses = int((between.score == 1).sum()), int((between.score == 0).sum())
    prompts, voters = len(np.unique(between.prompt)), len(np.unique(between.voter))
    rate = share_interval(between.score.tolist(), between.prompt.tolist())
    once = _first_votes(between)
    discount = design_effect(once.score, once.prompt)
    state = _state(once, discount, prompts, margin)
    n = len(between)
    decided = state != "not enough evidence"
    short = max(MIN_VOTES - len(once), MIN_PROMPTS - prompts, 1)
    drop, change = _votes_to_undo(once, discount) if state in ("better", "worse") else (None, None)
    needed = 0 if decided else max(_votes_to_go(once, discount, margin), short)
    draft = Verdict(
        model_a=model_a,
        model_b=model_b,
        state=state,
        win_rate=rate.mean if n else None,
        low=rate.low if n else 0.0,
        high=rate.high if n else 1.0,
        wins=wins,
        losses=losses,
        ties=n - wins - losses,
        prompts=prompts,
        voters=voters,
        e_value=min(exp(min(_log_e(once.score, discount), 700.0)), 1e300),
        votes_needed=needed,
        undone_by_drop=drop,
        undone_by_change=change,
        text="",
    )
    return Verdict(**{**asdict(draft), "text": _describe(draft)})


def votes_for_power(win_rate: float) -> int:
    """Decisive votes for 80 % power at a two-sided 5 %: 783 for 55 %, 194 for 60 %, 85 for 65 %, 47 for 70 %."""
    gap = abs(win_rate - 0.5)
    if gap == 0:
        return _MAX_VOTES
    return min(_MAX_VOTES, ceil(((1.959964 / 2 + 0.841621 * sqrt(win_rate * (1 - win_rate))) / gap) ** 2))


def log_mixture(wins: float, losses: float, chance: float = 0.5) -> float:
    """The log of the Beta(10, 10) mixture's likelihood ratio against a coin of this chance.

    Anytime-valid also for scores between 0 and 1 (a tie as half of each): the ratio is convex in the score.
    """
    mixture = float(betaln(_PRIOR + wins, _PRIOR + losses) - betaln(_PRIOR, _PRIOR))
    return mixture - wins * log(chance) - losses * log(1 - chance)


def _first_votes(votes: Votes) -> Votes:
    """Each voter's first vote on each prompt: a person who votes twice counts once."""
    if not len(votes):
        return votes
    _, first = np.unique(votes.prompt * (int(votes.voter.max()) + 1) + votes.voter, return_index=True)
    keep = np.sort(first)
    parts = (votes.first, votes.second, votes.score, votes.prompt, votes.voter)
    return Votes(votes.models, *(part[keep] for part in parts))


def _log_e(score: np.ndarray, discount: float) -> float:
    return log_mixture(float((score == 1).sum()) / discount, float((score == 0).sum()) / discount)


def _state(once: Votes, discount: float, prompts: int, margin: float) -> State:
    n = len(once)
    if n < MIN_VOTES or prompts < MIN_PROMPTS:
        return "not enough evidence"
    won, lost = float((once.score == 1).sum()), float((once.score == 0).sum())
    if log_mixture(won / discount, lost / discount) >= log(E_STOP):
        return "better" if won > lost else "worse"
    points = float(once.score.sum())
    if _within_margin(points / discount, (n - points) / discount, margin):
        return "no difference worth having"
    return "not enough evidence"


def _votes_to_undo(once: Votes, discount: float) -> tuple[int, int]:
    """The fewest of the winner's votes to remove, and to reverse, until the e-value falls below its threshold."""
    won, lost = float((once.score == 1).sum()), float((once.score == 0).sum())
    more, fewer = max(won, lost), min(won, lost)

    def fewest(holds: Callable[[int], bool]) -> int:
        low, high = 0, int(more)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
        return high

    def enough(one: float, other: float) -> bool:
        return one > other and log_mixture(one / discount, other / discount) >= log(E_STOP)

    removable = len(once) - MIN_VOTES + 1  # under 30 votes nothing is decided
    drop = min(removable, fewest(lambda votes: enough(more - votes, fewer)))
    return drop, fewest(lambda votes: enough(more - votes, fewer + votes))


def _within_margin(points: float, lost: float, margin: float) -> bool:
    """Whether the confidence sequence around the mean excludes both ends of the margin."""
    mean = points / (points + lost)
    ends = (0.5 - margin, 0.5 + margin)
    return ends[0] < mean < ends[1] and all(log_mixture(points, lost, end) >= log(E_STOP) for end in ends)


def _votes_to_go(once: Votes, discount: float, margin: float) -> int:
    """About how many more votes settle the state, if the trend continues: a difference or none, whichever is nearer."""
    n = len(once)
    if n == 0:
        return votes_for_power(0.6)
    won, lost = float((once.score == 1).mean()), float((once.score == 0).mean())
    points = float(once.score.mean())

    def settled(total: int) -> bool:
        size = total / discount
        if log_mixture(won * size, lost * size) >= log(E_STOP):
            return True
        return _within_margin(points * size, (1 - points) * size, margin)

    low, high = n, n + 1
    while not settled(high) and high < _MAX_VOTES:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return min(high, _MAX_VOTES) - n


def _describe(found: Verdict) -> str:
    a, b = found.model_a, found.model_b
    if found.win_rate is None:
        return f"Nobody has compared {a} with {b} yet. About {found.votes_needed} votes show a clear difference."
    who = "one person" if found.voters == 1 else f"{found.voters} people"
    numbers = (
        f"{a} won {found.win_rate:.0%} of {found.votes} votes against {b}, ties counted as half "
        f"(95 % interval {found.low:.0%} to {found.high:.0%}; {found.prompts} prompts, {who})"
    )
    match found.state:
        case "better":
            return f"{a} is better than {b}. {numbers}. {_robustness(found)}"
        case "worse":
            return f"{a} is worse than {b}. {numbers}. {_robustness(found)}"
        case "no difference worth having":
            return f"There is no meaningful difference between {a} and {b}. {numbers}."
        case _:
            return f"Not enough evidence yet. {numbers}. {_forecast(found)}"


def _robustness(found: Verdict) -> str:
    drop, change = (f"{n} vote" if n == 1 else f"{n} votes" for n in (found.undone_by_drop, found.undone_by_change))
    return f"Removing {drop}, or reversing {change}, would undo this."


def _forecast(found: Verdict) -> str:
    if found.votes_needed >= _MAX_VOTES / 2:
        return "If the trend continues, no realistic number of votes will decide."
    some = "one more vote is" if found.votes_needed == 1 else f"about {found.votes_needed:,} more votes are"
    more = f" on at least {MIN_PROMPTS} prompts" if found.prompts < MIN_PROMPTS else ""
    return f"If the trend continues, {some} needed{more}."
