"""What a number of voters and prompts can show: the power of a campaign's closing verdict, before the first vote.

Votes of such campaigns are simulated (the same seed gives the same numbers) and read as `verdict` reads them.
"""

from dataclasses import asdict, dataclass, replace
from math import log
from typing import Any

import numpy as np

from evals.ratings.simulated_votes import World, draw, with_win_rate
from evals.ratings.verdict_states import E_STOP, MARGIN, MIN_PROMPTS, MIN_VOTES
from evals.ratings.voter_means import MIN_VOTERS, Scope, VoterMean, from_sums, interval, log_evidence
from models.quantities import count_noun

WIN_RATES = (0.6, 0.65)
MARGINS = (MARGIN, 0.1)
_RUNS = 2_000
_CELLS = 6_000_000  # fewer runs for large campaigns


@dataclass(frozen=True)
class CampaignSize:
    """Voters, prompts, and how many prompts each voter judges (None: all), with what is assumed about them.

    `voter_sd` and `prompt_sd`: the spread of people and of prompts in log-odds; at 0.5, two of three people prefer
    a model on 38 to 62 % of the prompts if the average is 50 %. `ties`: the share of ties.
    """

    voters: int
    prompts: int
    votes_each: int | None = None
    voter_sd: float = 0.5
    prompt_sd: float = 1.0
    ties: float = 0.2

    @property
    def each(self) -> int:
        """The prompts that one voter judges."""
        return min(self.votes_each or self.prompts, self.prompts)


@dataclass(frozen=True)
class Power:
    """For one group of people: the probability that the closing verdict shows a true result, by result.

    `better`: a model whose true win rate is the key. `at_least_as_good`: an equally good model, within a margin of the
    key. `better_anytime`: as `better`, by the state that may be read after every vote, when all votes are in.
    """

    scope: Scope
    better: dict[float, float]
    at_least_as_good: dict[float, float]
    better_anytime: dict[float, float]


@dataclass(frozen=True)
class CampaignPower:
    """What a campaign of this size can show; `people_like_them` is None under five voters. `text` is for readers."""

    size: CampaignSize
    votes: int
    these_people: Power
    people_like_them: Power | None
    voters_missing: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """The power as plain JSON values."""
        return asdict(self)


def campaign_power(size: CampaignSize, seed: int = 0) -> CampaignPower:
    """The power of the planned verdict on these votes, and of the state that may be read at any time."""
    votes = size.voters * size.each
    enough = votes >= MIN_VOTES and size.prompts >= MIN_PROMPTS
    simulated = {rate: _simulated(size, rate, seed) for rate in (0.5, *WIN_RATES)} if enough else {}
    draft = CampaignPower(
        size=size,
        votes=votes,
        these_people=_power(simulated, "these people"),
        people_like_them=_power(simulated, "people like them") if size.voters >= MIN_VOTERS else None,
        voters_missing=max(MIN_VOTERS - size.voters, 0),
        text="",
    )
    return replace(draft, text=_text(draft))


def _simulated(size: CampaignSize, rate: float, seed: int) -> list[VoterMean]:
    world = World(size.voters, size.prompts, size.voter_sd, size.prompt_sd, ties=size.ties, votes_each=size.each)
    runs = max(min(_RUNS, _CELLS // (size.voters * size.prompts)), 200)
    return [from_sums(tables.sums()) for tables in draw(with_win_rate(world, rate), runs, seed)]


def _power(simulated: dict[float, list[VoterMean]], scope: Scope) -> Power:
    def share(rate: float, shows: Any) -> float:
        return float(np.concatenate([shows(estimate) for estimate in simulated[rate]]).mean()) if simulated else 0.0

    def anytime(estimate: VoterMean) -> np.ndarray:
        return (log_evidence(estimate, scope) >= log(E_STOP)) & (estimate.mean > 0.5)

    return Power(
        scope=scope,
        better={rate: share(rate, lambda estimate: interval(estimate, scope)[0] > 0.5) for rate in WIN_RATES},
        at_least_as_good={
            margin: share(0.5, lambda estimate, bound=0.5 - margin: interval(estimate, scope, 0.9)[0] > bound)
            for margin in MARGINS
        },
        better_anytime={rate: share(rate, anytime) for rate in WIN_RATES},
    )


def _text(planned: CampaignPower) -> str:
    size, power = planned.size, planned.people_like_them or planned.these_people
    voters = count_noun(size.voters, "voter")
    if planned.votes < MIN_VOTES or size.prompts < MIN_PROMPTS:
        verb = "is" if planned.votes == 1 else "are"
        short = f"{count_noun(planned.votes, 'vote')} on {count_noun(size.prompts, 'prompt')} {verb} too few"
        return f"{short}: a verdict needs {MIN_VOTES} votes on {MIN_PROMPTS} prompts."
    who = "people like the voters" if planned.people_like_them else "these voters only"
    each = count_noun(size.each, "prompt") + (" each" if size.voters > 1 else "")
    wins = " and ".join(f"{rate:.0%} in {power.better[rate]:.0%}" for rate in WIN_RATES)
    good = " and ".join(f"within {100 * margin:g} points in {power.at_least_as_good[margin]:.0%}" for margin in MARGINS)
    later = " and ".join(f"{rate:.0%} in {power.better_anytime[rate]:.0%}" for rate in WIN_RATES)
    parts = [
        f"{voters}, {each}: {count_noun(planned.votes, 'vote')}, which speak for {who}.",
        f"The verdict at the end detects a true win rate of {wins} of such campaigns.",
        f"It shows that an equally good model is at least as good {good}.",
        f"If it is read after every vote instead, it detects {later}."
        if any(power.better_anytime.values())
        else "If it is read after every vote instead, it detects neither with so few voters.",
        f"Assumed: {size.ties:.0%} ties; voters differ by {size.voter_sd:g} and prompts by {size.prompt_sd:g} "
        "(standard deviations in log-odds).",
    ]
    if planned.people_like_them is None:
        parts.append(
            f"To speak for other people, it takes at least {MIN_VOTERS} voters: {planned.voters_missing} more."
        )
    return " ".join(parts)
