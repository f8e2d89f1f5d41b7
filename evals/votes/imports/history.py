"""The imports of a database: listed, and undone in short transactions. An interrupted undo is finished later."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPromptRow, CriterionVoteRow, GoldPairRow, RecordedAnswerRow, VoteImportRow
from evals.tables import BattleRow, JudgmentRow, PairRow, PromptRow, VoteRow
from evals.votes.pair_counters import PairPlace, recount
from evals.votes.prompts import IMPORTED
from models.database import Database, utcnow
from models.errors import Conflict, NotFound

_BATCH = 1000  # battles removed in one transaction


@dataclass(frozen=True)
class VoteImport:
    """One import of a file. `votes`: those it stored; `complete` is false while it runs and after a kill."""

    id: str
    filename: str
    format: str
    campaign: str | None
    votes: int
    complete: bool
    created: datetime
    undone: datetime | None


def list_imports(database: Database) -> list[VoteImport]:
    """Every import, oldest first, including undone ones."""
    query = (
        select(VoteImportRow, func.count(BattleRow.id), func.min(BattleRow.campaign))
        .outerjoin(BattleRow, BattleRow.import_id == VoteImportRow.id)
        .group_by(VoteImportRow.id)
        .order_by(VoteImportRow.id)
    )
    with database.read() as session:
        return [
            VoteImport(
                id=row.id,
                filename=row.filename,
                format=row.format,
                campaign=campaign,
                votes=stored if row.undone is None else row.votes,
                complete=row.finished is not None,
                created=row.created,
                undone=row.undone,
            )
            for row, stored, campaign in session.execute(query)
        ]


def undo_import(database: Database, import_id: str) -> int:
    """Removes an import's votes, with the pairs and prompts that nothing else uses; returns the number of votes.

    None of them counts in a rating from the moment that this starts.

    Raises:
        NotFound: there is no such import. Conflict: it was undone before.
    """
    with database.write() as session:
        row = session.get(VoteImportRow, import_id)
        if row is None:
            raise NotFound(f"There is no import {import_id!r}. List them with `parley votes imports`.", param="import")
        if row.undone is not None:
            raise Conflict(f"The import {import_id} was already undone on {row.undone:%Y-%m-%d}.", param="import")
        row.undone = utcnow()
    return finish_undoing(database)


def finish_undoing(database: Database) -> int:
    """Removes what is left of imports that were undone; returns the number of votes."""
    removed = 0
    query = (
        select(BattleRow.id, BattleRow.pair_id, BattleRow.campaign, PairRow.model_1, PairRow.model_2, PairRow.prompt_id)
        .join(VoteImportRow, VoteImportRow.id == BattleRow.import_id)
        .join(PairRow, PairRow.id == BattleRow.pair_id)
        .where(VoteImportRow.undone.is_not(None))
        .limit(_BATCH)
    )
    while True:
        with database.read() as session:
            if session.execute(query.limit(1)).first() is None:
                return removed
        with database.write() as session:
            rows = session.execute(query).all()
            places = {PairPlace(*row[2:]) for row in rows}
            removed += _remove(session, [row[0] for row in rows], {row[1] for row in rows})
            recount(session, places)


def _remove(session: Session, battle_ids: list[str], pair_ids: set[str]) -> int:
    session.execute(delete(CriterionVoteRow).where(CriterionVoteRow.battle_id.in_(battle_ids)))
    votes = session.execute(delete(VoteRow).where(VoteRow.battle_id.in_(battle_ids)))
    session.execute(delete(BattleRow).where(BattleRow.id.in_(battle_ids)))
    used = [
        select(table.pair_id).where(table.pair_id == PairRow.id).exists()
        for table in (BattleRow, JudgmentRow, GoldPairRow)
    ]
    unused = (PairRow.id.in_(pair_ids), *(~one for one in used), PromptRow.source == IMPORTED)
    pairs = session.execute(select(PairRow.id, PairRow.prompt_id).join(PromptRow).where(*unused)).all()
    session.execute(delete(PairRow).where(PairRow.id.in_([pair_id for pair_id, _ in pairs])))
    used = [
        select(table.prompt_id).where(table.prompt_id == PromptRow.id).exists()
        for table in (PairRow, CampaignPromptRow, RecordedAnswerRow)
    ]
    prompts = (PromptRow.id.in_({prompt_id for _, prompt_id in pairs}), *(~one for one in used))
    session.execute(delete(PromptRow).where(*prompts))
    return votes.rowcount  # pyrefly: ignore[missing-attribute] -- a DELETE's result has it
