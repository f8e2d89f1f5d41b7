"""Models and pairs that failed, and until when they are not shown. Each further failure doubles the pause."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import SetAsideRow
from models.database import Database, utcnow

FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 600.0
FOREVER = timedelta(days=36_500)  # a recording that lacks a prompt, an answer that names its model


@dataclass(frozen=True)
class Place:
    """What is set aside: a model or a pair of models (`model_2`), everywhere or on one prompt."""

    model_1: str
    model_2: str = ""
    prompt_id: str = ""


@dataclass(frozen=True)
class SetAside:
    """Something that is or was set aside, for the owner. `resting`: it is still set aside."""

    place: Place
    reason: str
    failures: int
    until: datetime

    @property
    def resting(self) -> bool:
        return self.until > utcnow()


@dataclass
class Resting:
    """The places of a campaign that are set aside now, and those to leave out in this call only.

    `for_good`: those of them that do not come back. `known`: all places that failed before.
    """

    places: set[Place]
    until: datetime | None = None
    for_good: set[Place] = field(default_factory=set)
    known: set[Place] = field(default_factory=set)

    def has_models(self, models: tuple[str, str]) -> bool:
        """Whether the two models must not be compared on any prompt."""
        first, second = models
        return not self.places.isdisjoint((Place(first), Place(second), Place(first, second)))

    def has_prompt(self, models: tuple[str, str], prompt_id: str) -> bool:
        """Whether the two models must not be compared on this prompt now."""
        return not self.places.isdisjoint(_on_prompt(models, prompt_id))

    def returns(self, models: tuple[str, str], prompt_id: str) -> bool:
        """Whether the two models may be compared on this prompt later."""
        return self.for_good.isdisjoint(_on_prompt(models, prompt_id))


def resting_places(session: Session, campaign: str) -> Resting:
    """What is set aside in a campaign now; `until` is when the first of it may be shown again."""
    now = utcnow()
    rows = list(session.scalars(select(SetAsideRow).where(SetAsideRow.campaign == campaign)))
    resting = [row for row in rows if row.until > now]
    return Resting(
        places={_place(row) for row in resting},
        until=min((row.until for row in resting), default=None),
        for_good={_place(row) for row in resting if row.until > now + FOREVER / 2},
        known={_place(row) for row in rows},
    )


def set_aside_in(session: Session, campaign: str, place: Place, reason: str, *, pause: timedelta | None = None) -> None:
    """Sets something aside: for `pause`, or for 10 seconds that double with each failure up to 10 minutes."""
    now = utcnow()
    key = (campaign, place.model_1, place.model_2, place.prompt_id)
    row = session.get(SetAsideRow, key, with_for_update=True)
    if row is None:
        row = SetAsideRow(
            campaign=campaign,
            model_1=place.model_1,
            model_2=place.model_2,
            prompt_id=place.prompt_id,
            reason=reason,
            failures=0,
            until=now,
        )
        session.add(row)
    if row.until > now and pause is None:
        return  # a failure that several raters waited for counts once
    row.failures, row.reason = row.failures + 1, reason
    seconds = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (row.failures - 1))
    row.until = now + (pause or timedelta(seconds=seconds))


def clear_in(session: Session, campaign: str, places: Iterable[Place]) -> None:
    """Removes the failures of what works again."""
    for place in places:
        row = session.get(SetAsideRow, (campaign, place.model_1, place.model_2, place.prompt_id))
        if row is not None:
            session.delete(row)


def list_set_aside(database: Database, campaign: str) -> list[SetAside]:
    """Everything that failed in a campaign and has not worked since, the latest first."""
    query = select(SetAsideRow).where(SetAsideRow.campaign == campaign).order_by(SetAsideRow.until.desc())
    with database.read() as session:
        return [SetAside(_place(row), row.reason, row.failures, row.until) for row in session.scalars(query)]


def _on_prompt(models: tuple[str, str], prompt_id: str) -> tuple[Place, Place, Place]:
    first, second = models
    return Place(first, "", prompt_id), Place(second, "", prompt_id), Place(first, second, prompt_id)


def _place(row: SetAsideRow) -> Place:
    return Place(row.model_1, row.model_2, row.prompt_id)
