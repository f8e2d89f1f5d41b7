"""Which stored votes count: not those of an excluded voter or an undone import, nor those on gold pairs."""

from typing import Any

from sqlalchemy import ColumnElement, or_, select

from evals.campaign_tables import ExcludedVoterRow, VoteImportRow
from evals.tables import BattleRow, VoteRow


def counted() -> tuple[ColumnElement[Any], ...]:
    """The conditions of a query over votes joined with their battles."""
    return (
        BattleRow.gold.is_(False),
        VoteRow.voter.not_in(select(ExcludedVoterRow.voter)),
        counted_imports(),
    )


def counted_imports() -> ColumnElement[bool]:
    """The condition that a battle is not one of an undone import."""
    undone = select(VoteImportRow.id).where(VoteImportRow.undone.is_not(None))
    return or_(BattleRow.import_id.is_(None), BattleRow.import_id.not_in(undone))
