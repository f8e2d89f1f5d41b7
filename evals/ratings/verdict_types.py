"""A verdict's values, and the plan that a campaign fixes for it."""

from dataclasses import asdict, dataclass
from typing import Any

from evals.ratings.verdict_states import MARGIN, Look, ScopedVerdict, State
from evals.ratings.voter_means import Scope
from evals.ratings.voter_results import DecisiveVoter, VoterResult

MAX_FORECAST = 100_000  # votes; a larger forecast is of no use


@dataclass(frozen=True)
class PlannedLook:
    """What a campaign fixes before its first vote.

    `margin`: how far below an even split is still "at least as good". `votes`: the planned number of votes
    between the two models; None if only a date closes the campaign.
    """

    margin: float = MARGIN
    votes: int | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether `model_a` is better than `model_b`. Rates are of `model_a`, a tie as half a win.

    `win_rate` is the mean over voters, equally weighted, of the mean over each voter's prompts. `scope` says for whom
    the interval `low` to `high` (95 %, if read once) holds: for people like the voters from five voters on, else for
    these people. `state` and `at_least_as_good` are always about people like the voters, and so undecided under five
    voters; `voters_missing` is how many are missing. `these_people` and `people_like_them` have both; the second is
    None under
    five voters. `look`: whether the state may be read at any time, or only at the planned end.

    `e_value` is the anytime evidence for people like the voters. `votes_needed` is about how many more votes settle the
    state if the trend continues, cast by `voters_needed` more voters. `undone_by_drop` and `undone_by_change`: about
    how many of the winner's votes would have to be removed, or reversed, for the state to be no longer "better" or
    "worse"; None if it is neither. `decisive_voters` have half of the votes, or the state would change without them.
    `unknown_voters` counts votes that name no voter, which count as one person's.
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
    scope: Scope
    at_least_as_good: bool
    within_margin: bool
    margin: float
    look: Look
    voters_missing: int
    voters_needed: int
    these_people: ScopedVerdict
    people_like_them: ScopedVerdict | None
    by_voter: tuple[VoterResult, ...] = ()
    decisive_voters: tuple[DecisiveVoter, ...] = ()
    unknown_voters: int = 0
    planned_votes: int | None = None

    @property
    def votes(self) -> int:
        """All votes between the two."""
        return self.wins + self.losses + self.ties

    @property
    def headline(self) -> ScopedVerdict:
        """The verdict that is shown first: the one for people like the voters if there are enough voters."""
        return self.people_like_them or self.these_people

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain JSON values."""
        return asdict(self) | {"votes": self.votes}
