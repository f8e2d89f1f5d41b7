"""The report of a campaign: a verdict on each two of its models, overall and by criterion.

Once a campaign of a planned size is closed, its verdict is the one planned look. Before that, and for an open-ended
campaign, it is the state that may be read at any time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from typing import Any, Literal

from evals.campaigns.campaign import Campaign
from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.progress import planned_votes_per_models
from evals.ratings.planned_power import CampaignPower, CampaignSize, campaign_power
from evals.ratings.verdict import PlannedLook, Verdict, compare, planned_verdict
from evals.votes.votes import Votes, VoteSelection, stored_votes
from models.database import Database, utcnow
from models.errors import Invalid

_MOST_VOTERS, _MOST_CELLS = 1_000, 1_000_000  # what can be simulated in about a minute


@dataclass(frozen=True)
class CampaignReport:
    """A campaign's verdicts. `criteria` has the same by criterion. `look`: planned, or anytime before the end."""

    campaign: Campaign
    look: Literal["planned", "anytime"]
    votes: int
    verdicts: tuple[Verdict, ...]
    criteria: Mapping[str, tuple[Verdict, ...]]

    @property
    def text(self) -> str:
        """The report in words."""
        lines = [self.campaign.question]
        if self.look == "anytime" and not self.campaign.open_ended:
            lines.append(
                "The campaign is still open, so this is not its final verdict: that one is computed when it closes."
            )
        lines += [verdict.text for verdict in self.verdicts]
        for criterion, verdicts in self.criteria.items():
            lines += [f"{criterion}: {verdict.text}" for verdict in verdicts]
        return "\n\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "campaign": self.campaign.to_json(),
            "look": self.look,
            "votes": self.votes,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "criteria": {name: [each.to_json() for each in verdicts] for name, verdicts in self.criteria.items()},
            "text": self.text,
        }


def campaign_report(database: Database, name: str, *, open_links: bool = True) -> CampaignReport:
    """The report on the votes so far.

    Args:
        open_links: include votes from open links, which need no invite.

    Raises:
        NotFound: there is no such campaign.
    """
    campaign = load_campaign(database, name)
    which = VoteSelection(campaign=name, open_links=open_links)
    overall = stored_votes(database, which).votes
    by_criterion = {
        criterion: stored_votes(database, replace(which, criterion=criterion)).votes for criterion in campaign.criteria
    }
    return report_of(campaign, overall, by_criterion)


def report_of(
    campaign: Campaign, overall: Votes, by_criterion: Mapping[str, Votes], now: datetime | None = None
) -> CampaignReport:
    """The report on these votes at a time, by default now; uses no database."""
    planned = campaign.state_at(now or utcnow()) == "closed" and not campaign.open_ended
    models = campaign.models if not campaign.open_ended else tuple(sorted({*campaign.models, *overall.models}))
    plan = PlannedLook(campaign.margin, planned_votes_per_models(campaign))

    def verdicts(votes: Votes) -> tuple[Verdict, ...]:
        return tuple(
            planned_verdict(votes, a, b, plan) if planned else compare(votes, a, b, campaign.margin)
            for a, b in combinations(models, 2)
        )

    return CampaignReport(
        campaign=campaign,
        look="planned" if planned else "anytime",
        votes=len(overall),
        verdicts=verdicts(overall),
        criteria={criterion: verdicts(votes) for criterion, votes in by_criterion.items()},
    )


def campaign_plan(campaign: Campaign, voters: int, votes_each: int | None = None) -> CampaignPower:
    """What this many voters can show in this campaign, estimated before the first vote.

    Args:
        votes_each: votes of one person between two of the models; by default the campaign's votes per person, shared
            evenly by its pairs of models.

    Raises:
        Invalid: more than 1,000 voters, or more than a million voters times prompts: too many to simulate.
    """
    if not 1 <= voters <= _MOST_VOTERS:
        raise Invalid(f"A plan is for 1 to {_MOST_VOTERS:,} voters.", param="voters")
    if voters * campaign.prompts > _MOST_CELLS:
        raise Invalid(
            f"{voters:,} voters on {campaign.prompts:,} prompts are too many to simulate: give at most "
            f"{_MOST_CELLS // campaign.prompts:,} voters.",
            param="voters",
        )
    m = len(campaign.models)
    if votes_each is None and campaign.votes_per_person is not None:
        votes_each = max(1, campaign.votes_per_person // max(1, m * (m - 1) // 2))
    limit = planned_votes_per_models(campaign)
    if limit is not None:
        share = max(1, limit // voters)
        votes_each = share if votes_each is None else min(votes_each, share)
    return campaign_power(CampaignSize(voters=voters, prompts=max(1, campaign.prompts), votes_each=votes_each))
