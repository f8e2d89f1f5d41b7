"""The leaderboard's values: its rows, the effects of style, and the whole."""

from dataclasses import asdict, dataclass
from typing import Any

from evals.ratings.category_win_rates import CategoryRate
from evals.ratings.robustness import Turning
from evals.ratings.voter_agreement import Agreement
from evals.ratings.voter_means import Scope


@dataclass(frozen=True)
class RatedModel:
    """One row: rating and interval on the Elo scale, and the range of ranks that the votes allow (1 is best).

    `enough`: at least 30 votes on 20 prompts, and connected with the other models by comparisons. `without_ties` is
    the rating from decisive votes alone; `styled` with its interval is the rating with equal style (length and
    Markdown). Each is None if it cannot be computed.
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

    A covariate in which no answers differ is left out.
    """

    covariate: str
    effect: float
    low: float
    high: float


@dataclass(frozen=True)
class Leaderboard:
    """Models, the best first. `win_rates[i][j]` is row i's win rate against row j, ties as half; None without votes.
    `comparisons[i][j]` is the number of votes for it.

    `clustered_by` is what intervals are clustered by; `votes_needed` is about the two leading models. `both_bad` counts
    the ties where both answers were bad. `turning` is the fewest votes that would bring the second level with the
    first. `style_votes` counts the votes behind the style-controlled ratings. `scope`: for whom the intervals hold.
    `cycle`: models, each of which beats the next, and the last the first. `frequent_voter` has at least half of all
    votes. `notes` are sentences for the reader.
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
    scope: Scope = "these people"
    cycle: tuple[str, ...] = ()
    frequent_voter: str | None = None
    notes: tuple[str, ...] = ()
    comparisons: tuple[tuple[int, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The leaderboard as plain JSON values."""
        return asdict(self)
