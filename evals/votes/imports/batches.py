"""Storage of imported votes in short transactions, so that raters, ratings and other imports go on meanwhile."""

import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Table, func, select, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.imports.keys import as_ulid, prompt_digest
from evals.votes.imports.matches import NewVote
from evals.votes.imports.rows import ImportedVote
from evals.votes.prompts import IMPORTED
from models.database import Database, utcnow

_BATCH = 1000  # votes in one transaction
_PAUSE = 0.1  # the share of a batch's time that SQLite's lock then stays free: a waiting voter looks for it in steps
_IMPORT_LOCK = 7_140_501  # PostgreSQL's advisory lock that makes batches of several imports take turns


def store_votes(
    database: Database,
    votes: Sequence[NewVote],
    *,
    import_id: str,
    campaign: str,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Stores votes; returns how many are new. Those that another process has stored meanwhile are left out.

    Args:
        report: is called after each batch with the number of votes that are done.
    """
    new = 0
    for start in range(0, len(votes), _BATCH):
        batch = votes[start : start + _BATCH]
        contents = [(vote.vote.content, prompt_digest(vote.vote.content)) for vote in batch]
        began = time.monotonic()
        with database.write() as session:
            new += _Batch(session, import_id, campaign).store(batch, contents)
        if database.is_sqlite:
            time.sleep(_PAUSE * (time.monotonic() - began))
        report(start + len(batch))
    return new


class _Batch:
    """One transaction of an import."""

    def __init__(self, session: Session, import_id: str, campaign: str) -> None:
        self._session, self._import_id, self._campaign = session, import_id, campaign
        self._is_sqlite = session.get_bind().dialect.name == "sqlite"
        self._now = utcnow()
        if not self._is_sqlite:
            session.execute(text(f"SELECT pg_advisory_xact_lock({_IMPORT_LOCK})"))

    def store(self, batch: Sequence[NewVote], contents: Sequence[tuple[list[dict[str, str]], str]]) -> int:
        """Stores the batch's prompts, pairs, battles and votes; returns how many votes are new."""
        prompts = self._store_prompts(batch, contents)
        pairs = [_pair(new.vote, prompts[digest], self._now) for new, (_, digest) in zip(batch, contents, strict=True)]
        self._insert(PairRow, list({pair["id"]: pair for pair in pairs}.values()))
        self._store_battles(batch, [pair["id"] for pair in pairs])
        return self._insert(
            VoteRow,
            [
                {
                    "battle_id": new.battle_id,
                    "voter": new.vote.voter,
                    "choice": new.vote.choice,
                    "created": new.vote.when or self._now + timedelta(microseconds=place),  # in the file's order
                }
                for place, new in enumerate(batch)
            ],
        )

    def _store_prompts(
        self, batch: Sequence[NewVote], contents: Sequence[tuple[list[dict[str, str]], str]]
    ) -> dict[str, str]:
        """The ids of the batch's prompts by their digest."""
        rows = {
            digest: {
                "id": as_ulid(digest), "digest": digest, "messages": messages, "category": new.vote.category,
                "topics": [], "held_out": False, "source": IMPORTED, "created": self._now,
            }
            for new, (messages, digest) in zip(batch, contents, strict=True)
        }  # fmt: skip
        known = self._prompt_ids(list(rows))
        missing = [row for digest, row in rows.items() if digest not in known]
        if missing:
            self._insert(PromptRow, missing)
            known |= self._prompt_ids([row["digest"] for row in missing])
        return known

    def _prompt_ids(self, digests: Sequence[str]) -> dict[str, str]:
        query = select(PromptRow.digest, PromptRow.id).where(PromptRow.digest.in_(digests))
        return {row.digest: row.id for row in self._session.execute(query)}

    def _store_battles(self, batch: Sequence[NewVote], pair_ids: Sequence[str]) -> None:
        rows = [
            {
                "id": new.battle_id, "pair_id": pair_id, "voter": new.vote.voter,
                "flipped": new.vote.left > new.vote.right, "again": new.vote.again, "campaign": self._campaign,
                "gold": False, "revealed": self._now, "undone": 0, "import_id": self._import_id, "created": self._now,
            }
            for new, pair_id in zip(batch, pair_ids, strict=True)
        ]  # fmt: skip
        while rows:
            self._number_showings(rows)
            if self._insert(BattleRow, rows) == len(rows):
                return
            # A battle has been stored meanwhile, or another showing of the pair to the voter.
            query = select(BattleRow.id).where(BattleRow.id.in_([row["id"] for row in rows]))
            present = set(self._session.scalars(query))
            rows = [row for row in rows if row["id"] not in present]

    def _number_showings(self, rows: Sequence[dict[str, Any]]) -> None:
        """Numbers the showings of a pair to a voter, after those that are stored."""
        query = (
            select(BattleRow.pair_id, BattleRow.voter, func.max(BattleRow.showing))
            .where(BattleRow.pair_id.in_({row["pair_id"] for row in rows}), BattleRow.campaign == self._campaign)
            .group_by(BattleRow.pair_id, BattleRow.voter)
        )
        last = {(pair_id, voter): showing for pair_id, voter, showing in self._session.execute(query)}
        for row in rows:
            key = (row["pair_id"], row["voter"])
            row["showing"] = last[key] = last.get(key, -1) + 1

    def _insert(self, table: type[Any], rows: Sequence[dict[str, Any]]) -> int:
        """Inserts rows that are not there yet; returns how many were new."""
        if self._is_sqlite:
            statement = sqlite.insert(table.__table__).on_conflict_do_nothing()
            return self._session.connection().execute(statement, rows).rowcount
        return _insert_json(self._session, table.__table__, rows)


def _pair(vote: ImportedVote, prompt_id: str, now: datetime) -> dict[str, Any]:
    sides = [(vote.left, vote.left_answer), (vote.right, vote.right_answer)]
    (model_1, answer_1), (model_2, answer_2) = sides[::-1] if vote.left > vote.right else sides
    return {
        "id": as_ulid(json.dumps([prompt_id, model_1, model_2, answer_1, answer_2])), "prompt_id": prompt_id,
        "model_1": model_1, "model_2": model_2, "answer_1": answer_1, "answer_2": answer_2, "created": now,
    }  # fmt: skip


def _insert_json(session: Session, table: Table, rows: Sequence[dict[str, Any]]) -> int:
    """On PostgreSQL, as one parameter: one statement for each row took four times as long."""
    columns = ", ".join(f'"{name}"' for name in rows[0])
    statement = text(
        f"INSERT INTO {table.name} ({columns}) SELECT {columns} "  # noqa: S608 -- names of our own tables
        f"FROM json_populate_recordset(NULL::{table.name}, CAST(:rows AS json)) ON CONFLICT DO NOTHING"
    )
    result = session.connection().execute(statement, {"rows": json.dumps(rows, default=_naive_utc)})
    return result.rowcount


def _naive_utc(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat()
