"""The states of a verdict and their order, from a mean over voters: by an anytime test, or by one planned reading."""

from dataclasses import dataclass
from math import exp, log
from typing import Literal

from evals.ratings.voter_means import MIN_VOTERS, Scope, VoterMean, interval, log_evidence

State = Literal["better", "worse", "no difference worth having", "at least as good", "not enough evidence"]
Look = Literal["anytime", "planned"]
UNDECIDED: State = "not enough evidence"
MIN_VOTES = 30
MIN_PROMPTS = 20
MARGIN = 0.05  # a win rate from 45 to 55 % is no meaningful difference
E_STOP = 20.0
_BOTH_SIDES, _ONE_SIDE = 0.95, 0.9  # levels: 5 % for better and worse together; 5 % for one bound


@dataclass(frozen=True)
class ScopedVerdict:
    """What holds for one group of people; the rates are the first model's.

    `low` to `high` is the 95 % interval, if read once. `within_margin`: the difference is shown to be smaller than the
    margin. `at_least_as_good`: the first model is shown to be worse by no more than the margin; also true of "better"
    and "no difference worth having". `e_value` is the anytime evidence against equality.
    """

    scope: Scope
    state: State
    low: float
    high: float
    within_margin: bool
    at_least_as_good: bool
    e_value: float


@dataclass(frozen=True)
class Rule:
    """How a state is reached. `voters`: the fewest from which people like them can be judged."""

    look: Look = "anytime"
    margin: float = MARGIN
    voters: int = MIN_VOTERS


def scoped_verdict(found: VoterMean, votes: int, scope: Scope, rule: Rule) -> ScopedVerdict:
    """The verdict for one group. `votes` counts a voter's votes on one prompt once."""
    low, high = (float(end) for end in interval(found, scope))
    enough = votes >= MIN_VOTES and found.prompts >= MIN_PROMPTS
    if scope == "people like them":
        enough = enough and found.voters >= rule.voters
    shown = (_anytime if rule.look == "anytime" else _planned)(found, scope, rule.margin) if enough else _NOTHING
    state = _state(shown)
    return ScopedVerdict(
        scope=scope,
        state=state,
        low=low,
        high=high,
        within_margin=shown.above_margin and shown.below_margin,
        at_least_as_good=state == "better" or shown.above_margin,
        e_value=min(exp(min(float(log_evidence(found, scope)), 700.0)), 1e300),
    )


@dataclass(frozen=True)
class _Shown:
    """Whether the win rate is shown to be above or below one half, above 50 − margin, and below 50 + margin."""

    above: bool
    below: bool
    above_margin: bool
    below_margin: bool


_NOTHING = _Shown(False, False, False, False)


def _state(shown: _Shown) -> State:
    if shown.above or shown.below:
        return "better" if shown.above else "worse"
    if shown.above_margin and shown.below_margin:
        return "no difference worth having"
    return "at least as good" if shown.above_margin else UNDECIDED


def _anytime(found: VoterMean, scope: Scope, margin: float) -> _Shown:
    mean = float(found.mean)

    def differs(chance: float) -> bool:
        return float(log_evidence(found, scope, chance)) >= log(E_STOP)

    return _Shown(
        above=mean > 0.5 and differs(0.5),
        below=mean < 0.5 and differs(0.5),
        above_margin=mean > 0.5 - margin and differs(0.5 - margin),
        below_margin=mean < 0.5 + margin and differs(0.5 + margin),
    )


def _planned(found: VoterMean, scope: Scope, margin: float) -> _Shown:
    low, high = interval(found, scope, _BOTH_SIDES)
    bound_low, bound_high = interval(found, scope, _ONE_SIDE)
    return _Shown(
        above=float(low) > 0.5,
        below=float(high) < 0.5,
        above_margin=float(bound_low) > 0.5 - margin,
        below_margin=float(bound_high) < 0.5 + margin,
    )
