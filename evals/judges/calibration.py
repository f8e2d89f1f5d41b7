"""Calibration: how well a judge agrees with people's votes. It first judges the voted pairs that it has not judged."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.campaign_tables import OPEN_CAMPAIGN
from evals.campaigns.lifecycle import load_campaign
from evals.judges.answer_pairs import AnswerPair
from evals.judges.human_agreement import HumanAgreement, agreement_by_category, describe_trust
from evals.judges.judge import BOTH_ORDERS, Judge
from evals.judges.judgment_store import JudgmentStore
from evals.judges.labelled_pairs import StoredVerdict, Votes, label, load_verdicts, load_votes
from evals.judges.ppi import Powered, powered_if_enough
from evals.judges.rubric import store_rubric
from evals.request_pool import ReportProgress, RequestPool
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.counted_votes import counted
from evals.votes.prompts import as_prompt
from models.chat.judge_prompt import DEFAULT_RUBRIC, Rubric
from models.chat.messages import Completer
from models.database import Database
from models.errors import NotFound


@dataclass(frozen=True)
class CalibrationRequest:
    """The judge to compare with people, by its id, and the campaign whose votes it is compared with."""

    judge: str
    rubric: Rubric = DEFAULT_RUBRIC
    campaign: str = OPEN_CAMPAIGN


@dataclass(frozen=True)
class HumanWinRate:
    """How often people would prefer `model_b` to `model_a`, estimated from few votes and many judge verdicts."""

    model_a: str
    model_b: str
    found: Powered


@dataclass(frozen=True)
class Calibration:
    """A judge compared with this team's votes in one campaign.

    `voted` pairs have votes, `judged` of them a verdict in both orders. `groups`: all votes first, then categories.
    `unparsed` counts judgments that could not be parsed, `failed` requests that failed in this run.
    """

    judge: str
    rubric: str
    rubric_hash: str
    campaign: str
    voted: int
    judged: int
    unparsed: int
    failed: int
    groups: tuple[HumanAgreement, ...]
    win_rates: tuple[HumanWinRate, ...]

    @property
    def summary(self) -> str:
        """The result in one paragraph."""
        sentences = [describe_trust(self.judge, self.groups)]
        if self.judged < self.voted:
            sentences.append(f"It has judged {self.judged} of the {self.voted} pairs with votes.")
        sentences += [
            f"People are estimated to prefer {rate.model_b} to {rate.model_a} in {rate.found.mean:.0%} of cases "
            f"({max(0.0, rate.found.low):.0%} to {min(1.0, rate.found.high):.0%}; from the votes alone "
            f"{max(0.0, rate.found.people_low):.0%} to {min(1.0, rate.found.people_high):.0%})."
            for rate in self.win_rates
        ]
        return " ".join(sentences)

    def to_json(self) -> dict[str, object]:
        """All fields as plain JSON values, with the summary under `words`."""
        from pydantic import TypeAdapter

        return TypeAdapter(Calibration).dump_python(self, mode="json") | {"words": self.summary}


async def calibrate(
    database: Database,
    completer_for: Callable[[str], Completer] | None,
    request: CalibrationRequest,
    report: ReportProgress | None = None,
) -> Calibration:
    """How well a judge agrees with a campaign's votes; it first judges the voted pairs that it has not judged yet.

    Args:
        completer_for: None to use the stored judgments only.

    Raises:
        NotFound: there is no such campaign, or it has no votes yet.
        ParleyError: the judge cannot be asked at all.
    """
    await asyncio.to_thread(load_campaign, database, request.campaign)
    pairs = await asyncio.to_thread(_voted_pairs, database, request.campaign)
    if not pairs:
        where = "at the page's /vote" if request.campaign == OPEN_CAMPAIGN else f"in the campaign {request.campaign}"
        raise NotFound(
            f"Nobody has voted {where} yet. Collect votes, or choose another campaign with --campaign.",
            param="campaign",
        )
    failed = 0
    if completer_for is not None:
        await asyncio.to_thread(store_rubric, database, request.rubric)
        pool = RequestPool(len(pairs) * 2, report)
        store = JudgmentStore(database, Judge(request.judge, completer_for(request.judge), request.rubric))
        judgments = await store.collect(pairs, BOTH_ORDERS, pool, "judging")
        if not judgments.by_key and pool.failures:
            raise pool.failures[-1]
        failed = len(pool.failures)
    return await asyncio.to_thread(_calibration, database, request, {pair.id for pair in pairs}, failed)


def _calibration(database: Database, request: CalibrationRequest, voted: set[str], failed: int) -> Calibration:
    rubric = request.rubric
    verdicts, unparsed = load_verdicts(database, request.judge, rubric.hash)
    votes = load_votes(database, list(voted), request.campaign)
    return Calibration(
        judge=request.judge,
        rubric=rubric.name,
        rubric_hash=rubric.hash,
        campaign=request.campaign,
        voted=len(voted),
        judged=sum(verdict.pair in voted for verdict in verdicts),
        unparsed=unparsed,
        failed=failed,
        groups=agreement_by_category(label(verdicts, votes)),
        win_rates=_win_rates(verdicts, votes),
    )


def _win_rates(verdicts: Sequence[StoredVerdict], votes: Votes) -> tuple[HumanWinRate, ...]:
    by_models: dict[tuple[str, str], list[StoredVerdict]] = {}
    for verdict in verdicts:
        by_models.setdefault(verdict.models, []).append(verdict)
    rates = []
    for (model_a, model_b), pairs in sorted(by_models.items()):
        voted = [verdict for verdict in pairs if verdict.pair in votes]
        unvoted = [verdict for verdict in pairs if verdict.pair not in votes]
        human = [1 - sum(score for _, score in votes[verdict.pair]) / len(votes[verdict.pair]) for verdict in voted]
        powered = powered_if_enough(
            human,
            [1 - verdict.share for verdict in voted],
            [1 - verdict.share for verdict in unvoted],
            [verdict.prompt for verdict in voted],
            [verdict.prompt for verdict in unvoted],
        )
        if powered:
            rates.append(HumanWinRate(model_a, model_b, powered))
    return tuple(rates)


def _voted_pairs(database: Database, campaign: str) -> list[AnswerPair]:
    voted = select(BattleRow.pair_id).join(VoteRow, VoteRow.battle_id == BattleRow.id)
    query = (
        select(PairRow, PromptRow)
        .join(PromptRow, PromptRow.id == PairRow.prompt_id)
        .where(PairRow.id.in_(voted.where(BattleRow.campaign == campaign, *counted())))
        .order_by(PairRow.id)
    )
    with database.read() as session:
        return [
            AnswerPair(pair.id, as_prompt(prompt), pair.answer_1, pair.answer_2, models=(pair.model_1, pair.model_2))
            for pair, prompt in session.execute(query)
        ]
