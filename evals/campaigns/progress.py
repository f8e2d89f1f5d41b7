"""A campaign's progress, for its owner: votes, raters, prepared answers, failures, leaks, skips. It names models."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignRow
from evals.campaigns.campaign import Campaign
from evals.campaigns.gold_pairs import GoldResult, gold_results
from evals.campaigns.leaks import campaign_names, hide_names
from evals.campaigns.lifecycle import PREPARE, load_campaign
from evals.campaigns.preparation import Prepared, preparation
from evals.campaigns.raters import RaterVotes, list_raters
from evals.campaigns.set_aside import SetAside, list_set_aside
from evals.campaigns.style_accuracy import StyleAccuracy, campaign_style
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.counted_votes import counted
from models.database import Database
from models.jobs.jobs import Job, list_jobs


@dataclass(frozen=True)
class CampaignProgress:
    """A campaign with its numbers.

    `votes` counts votes that are rated, `wanted` how many there will be at most, None without an end; `voters` the
    people who voted. `leaks` is the number of answers shown so far that name a model, by the model that wrote them.
    `left_share` is the share of decisive votes for the left answer; `style` says how well style alone identifies
    models. `job` is the newest preparation.
    """

    campaign: Campaign
    votes: int
    wanted: int | None
    voters: int
    skips: Mapping[str, int]
    left_share: float | None
    raters: tuple[RaterVotes, ...]
    prepared: tuple[Prepared, ...]
    job: Job | None
    set_aside: tuple[SetAside, ...]
    leaks: Mapping[str, int]
    gold: tuple[GoldResult, ...]
    style: tuple[StyleAccuracy, ...]

    def to_json(self) -> dict[str, Any]:
        """The progress as plain JSON values; raters by name if they have one."""
        job = self.job
        return {
            "campaign": self.campaign.to_json(),
            "votes": self.votes,
            "wanted": self.wanted,
            "voters": self.voters,
            "skips": dict(self.skips),
            "left_share": self.left_share,
            "raters": [
                {"voter": each.rater.voter, "name": each.rater.name, "link": each.rater.link, "votes": each.votes}
                for each in self.raters
            ],
            "prepared": [vars(each) for each in self.prepared],
            "preparation": None if job is None else {"status": job.status, "message": job.message, "error": job.error},
            "set_aside": [
                vars(each.place)
                | {
                    "reason": each.reason,
                    "failures": each.failures,
                    "until": each.until.isoformat(),
                    "resting": each.resting,
                }
                for each in self.set_aside
            ],
            "leaks": dict(self.leaks),
            "gold": [vars(each) for each in self.gold],
            "style": [asdict(each) for each in self.style],
        }


def campaign_progress(database: Database, name: str) -> CampaignProgress:
    """The progress of a campaign.

    Raises:
        NotFound: there is no such campaign.
    """
    campaign = load_campaign(database, name)
    with database.read() as session:
        by_choice = _rated(select(VoteRow.choice, func.count()), name).group_by(VoteRow.choice)
        choices: dict[str, int] = dict(session.execute(by_choice).all())
        voters = session.scalar(_rated(select(func.count(VoteRow.voter.distinct())), name)) or 0
        leaks = leaks_by_model(session, session.get_one(CampaignRow, name))
        by_reason = (
            select(BattleRow.skip_reason, func.count())
            .where(BattleRow.campaign == name, BattleRow.skip_reason.is_not(None))
            .group_by(BattleRow.skip_reason)
        )
        skips = {reason: count for reason, count in session.execute(by_reason) if reason}
    left, right = choices.get("left", 0), choices.get("right", 0)
    jobs = [job for job in list_jobs(database, PREPARE) if job.params.get("campaign") == name]
    return CampaignProgress(
        campaign=campaign,
        votes=sum(choices.values()),
        wanted=planned_votes(campaign),
        voters=voters,
        skips=skips,
        left_share=left / (left + right) if left + right else None,
        raters=tuple(list_raters(database, name)),
        prepared=preparation(database, name),
        job=jobs[0] if jobs else None,
        set_aside=tuple(list_set_aside(database, name)),
        leaks=leaks,
        gold=tuple(gold_results(database, name)),
        style=tuple(campaign_style(database, name)),
    )


def planned_votes(campaign: Campaign) -> int | None:
    """The number of votes at which every pair of answers has reached its limit; None without a limit."""
    per_models = planned_votes_per_models(campaign)
    m = len(campaign.models)
    return None if per_models is None else per_models * m * (m - 1) // 2


def planned_votes_per_models(campaign: Campaign) -> int | None:
    """The same between two models."""
    if campaign.open_ended or campaign.votes_per_pair is None:
        return None
    return campaign.votes_per_pair * campaign.prompts


def leaks_by_model(session: Session, campaign: CampaignRow) -> dict[str, int]:
    """The answers shown so far that name a model, by the model that wrote them. It reads every such answer."""
    names = campaign_names(session, campaign.models)
    shown = select(BattleRow.pair_id).where(BattleRow.campaign == campaign.name, BattleRow.gold.is_(False))
    query = select(PairRow.model_1, PairRow.answer_1, PairRow.model_2, PairRow.answer_2).where(PairRow.id.in_(shown))
    by_model: dict[str, set[str]] = {}
    for first, answer_1, second, answer_2 in session.execute(query):
        for model, text in ((first, answer_1), (second, answer_2)):
            if hide_names(text, names).leaks:
                by_model.setdefault(model, set()).add(text)
    return {model: len(texts) for model, texts in sorted(by_model.items())}


def _rated(query: Any, name: str) -> Any:
    return (
        query.select_from(VoteRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .where(BattleRow.campaign == name, BattleRow.again.is_(False), *counted())
    )
