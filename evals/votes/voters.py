"""Voters whose votes count in no rating. Their votes stay stored, and count again once the voter is included."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.campaign_tables import ExcludedVoterRow
from evals.tables import VoteRow
from models.database import Database
from models.errors import Conflict, NotFound


@dataclass(frozen=True)
class ExcludedVoter:
    """An excluded voter, the time of the exclusion, and the number of their votes."""

    voter: str
    reason: str
    votes: int
    created: datetime


def exclude_voter(database: Database, voter: str, reason: str = "") -> int:
    """Excludes a voter from every rating; returns the number of their votes.

    Raises:
        NotFound: the voter has no votes. Conflict: the voter is excluded already.
    """
    with database.write() as session:
        votes = _count(voter, session)
        if not votes:
            raise NotFound(f"No votes of {voter!r} are stored.", param="voter")
        if session.get(ExcludedVoterRow, voter) is not None:
            raise Conflict(f"The votes of {voter!r} are excluded already.", param="voter")
        session.add(ExcludedVoterRow(voter=voter, reason=reason))
        return votes


def include_voter(database: Database, voter: str) -> int:
    """Includes an excluded voter again; returns the number of their votes.

    Raises:
        NotFound: the voter is not excluded.
    """
    with database.write() as session:
        row = session.get(ExcludedVoterRow, voter)
        if row is None:
            raise NotFound(f"The votes of {voter!r} are not excluded.", param="voter")
        session.delete(row)
        return _count(voter, session)


def excluded_voters(database: Database) -> list[ExcludedVoter]:
    """The excluded voters, in the order of exclusion."""
    with database.read() as session:
        rows = session.scalars(select(ExcludedVoterRow).order_by(ExcludedVoterRow.created))
        return [ExcludedVoter(row.voter, row.reason, _count(row.voter, session), row.created) for row in rows]


def _count(voter: str, session: Session) -> int:
    return session.scalar(select(func.count()).where(VoteRow.voter == voter)) or 0
