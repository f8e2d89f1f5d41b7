"""What a rater has seen and sees next: earlier battles, places in a campaign, matches."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaigns.pair_sampling import ModelPair
from evals.tables import BattleRow, PairRow, VoteRow
from evals.votes.prompts import Prompt
from models.database import new_ulid

RESERVED = timedelta(minutes=30)  # how long a pair on somebody's screen counts as a pending vote


@dataclass(frozen=True)
class Showing:
    """One earlier battle of the voter in this campaign."""

    pair_id: str
    models: ModelPair
    prompt_id: str
    flipped: bool
    again: bool
    gold: bool
    voted: bool
    skipped: bool
    created: datetime


@dataclass(frozen=True)
class Cell:
    """A place in the campaign: a prompt and sample of two models, with the pair that is shown there, once fixed."""

    prompt_id: str
    sample: int = 0
    pair_id: str | None = None


@dataclass(frozen=True)
class Match:
    """What to show. Without a `pair`, the models without an entry in `answers` must be asked."""

    models: ModelPair
    prompt: Prompt
    sample: int = 0
    pair: PairRow | None = None
    answers: Mapping[str, str] | None = None
    probability: float | None = None
    again: bool = False
    gold: bool = False
    fresh: bool = False

    @property
    def missing(self) -> list[str]:
        """The models to ask."""
        return [model for model in self.models if self.fresh or model not in (self.answers or {})]


@dataclass(frozen=True)
class Wish:
    """The requirements for the next battle. `ready`: the models that can be asked now, None: all of them."""

    voter: str
    typed: Prompt | None
    repeat_share: float
    ready: Collection[str] | None


def new_pair(prompt: Prompt, models: ModelPair, answers: Mapping[str, str]) -> PairRow:
    """A pair of answers, not yet stored. `models` are in sorted order."""
    first, second = models
    return PairRow(
        id=new_ulid(),
        prompt_id=prompt.id,
        model_1=first,
        model_2=second,
        answer_1=answers[first],
        answer_2=answers[second],
    )


def voter_history(session: Session, campaign: str, voter: str) -> list[Showing]:
    """A voter's battles in a campaign, oldest first."""
    query = (
        select(
            BattleRow.pair_id, PairRow.model_1, PairRow.model_2, PairRow.prompt_id, BattleRow.flipped, BattleRow.again,
            BattleRow.gold, VoteRow.battle_id, BattleRow.skip_reason, BattleRow.created,
        )
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .outerjoin(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign)
        .order_by(BattleRow.created, BattleRow.id)
    )  # fmt: skip
    return [_showing(*row) for row in session.execute(query)]


def _showing(*columns: Any) -> Showing:
    pair_id, first, second, prompt_id, flipped, again, gold, vote, skip, created = columns
    return Showing(
        pair_id, (first, second), prompt_id, flipped, again, gold, vote is not None, skip is not None, created
    )
