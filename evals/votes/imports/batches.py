"""Storage of imported votes in short transactions, so that raters, ratings and other imports go on meanwhile."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.imports.keys import as_ulid, pair_key, prompt_digest
from evals.votes.imports.matches import NewVote
from evals.votes.imports.rows import ImportedVote
from evals.votes.prompts import IMPORTED
from models.database import Database, utcnow

_BATCH = 2000  # votes in one transaction: about a quarter of a second
_PAUSE = 0.1  # the share of a batch's time that SQLite's lock then stays free: a waiting voter looks for it in steps
_CACHE_KIB = 65_536
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
    new, seen = 0, _Seen()
    for start in range(0, len(votes), _BATCH):
        batch = votes[start : start + _BATCH]
        contents = [(vote.vote.content, prompt_digest(vote.vote.content)) for vote in batch]
        began = time.monotonic()
        with database.write() as session:
            new += _Batch(session, import_id, campaign, seen).store(batch, contents)
        if database.is_sqlite:
            time.sleep(_PAUSE * (time.monotonic() - began))
        report(start + len(batch))
    return new


@dataclass(frozen=True)
class _Seen:
    """What earlier batches stored: prompts' ids by digest, and the last showing of each pair to each voter."""

    prompts: dict[str, str] = field(default_factory=dict)
    showings: dict[tuple[str, str], int] = field(default_factory=dict)


class _Batch:
    """One transaction of an import."""

    def __init__(self, session: Session, import_id: str, campaign: str, seen: _Seen) -> None:
        self._session, self._import_id, self._campaign, self._seen = session, import_id, campaign, seen
        self._is_sqlite = session.get_bind().dialect.name == "sqlite"
        self._now = utcnow()
        self._created = _naive_utc(self._now)
        if self._is_sqlite:  # the keys are hashes, so that each batch touches pages everywhere
            session.connection().exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
        else:
            session.execute(text(f"SELECT pg_advisory_xact_lock({_IMPORT_LOCK})"))

    def store(self, batch: Sequence[NewVote], contents: Sequence[tuple[list[dict[str, str]], str]]) -> int:
        """Stores the batch's prompts, pairs, battles and votes; returns how many votes are new."""
        prompts = self._store_prompts(batch, contents)
        pairs = [
            _pair(new.vote, prompts[digest], self._created) for new, (_, digest) in zip(batch, contents, strict=True)
        ]
        self._insert(PairRow, list({pair["id"]: pair for pair in pairs}.values()))
        self._store_battles(batch, [pair["id"] for pair in pairs])
        return self._insert(
            VoteRow,
            [
                {
                    "battle_id": new.battle_id,
                    "voter": new.vote.voter,
                    "choice": new.vote.choice,
                    # In the file's order.
                    "created": _naive_utc(new.vote.when or self._now + timedelta(microseconds=place)),
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
                "topics": [], "held_out": False, "source": IMPORTED, "created": self._created,
            }
            for new, (messages, digest) in zip(batch, contents, strict=True)
        }  # fmt: skip
        rows = {digest: row for digest, row in rows.items() if digest not in self._seen.prompts}
        self._seen.prompts.update(self._prompt_ids(list(rows)))
        missing = [row for digest, row in rows.items() if digest not in self._seen.prompts]
        if missing:
            self._insert(PromptRow, missing)
            self._seen.prompts.update(self._prompt_ids([row["digest"] for row in missing]))
        return self._seen.prompts

    def _prompt_ids(self, digests: Sequence[str]) -> dict[str, str]:
        query = select(PromptRow.digest, PromptRow.id).where(PromptRow.digest.in_(digests))
        return {row.digest: row.id for row in self._session.execute(query)}

    def _store_battles(self, batch: Sequence[NewVote], pair_ids: Sequence[str]) -> None:
        rows = [
            {
                "id": new.battle_id, "pair_id": pair_id, "voter": new.vote.voter,
                "flipped": new.vote.left > new.vote.right, "again": new.vote.again, "campaign": self._campaign,
                "gold": False, "revealed": self._created, "undone": 0, "import_id": self._import_id,
                "created": self._created,
            }
            for new, pair_id in zip(batch, pair_ids, strict=True)
        ]  # fmt: skip
        for row in rows:
            self._number(row)
        while self._insert(BattleRow, rows) < len(rows):
            # A battle has been stored meanwhile, or the pair was shown to the voter before this import.
            query = select(BattleRow.id).where(BattleRow.id.in_([row["id"] for row in rows]))
            present = set(self._session.scalars(query))
            rows = [row for row in rows if row["id"] not in present]
            if not rows:
                break
            self._read_showings(rows)
            for row in rows:
                self._number(row)

    def _number(self, row: dict[str, Any]) -> None:
        """Numbers a showing of a pair to a voter, after those that are known."""
        key = (row["pair_id"], row["voter"])
        row["showing"] = self._seen.showings[key] = self._seen.showings.get(key, -1) + 1

    def _read_showings(self, rows: Sequence[dict[str, Any]]) -> None:
        query = (
            select(BattleRow.pair_id, BattleRow.voter, func.max(BattleRow.showing))
            .where(BattleRow.pair_id.in_({row["pair_id"] for row in rows}), BattleRow.campaign == self._campaign)
            .group_by(BattleRow.pair_id, BattleRow.voter)
        )
        for pair_id, voter, showing in self._session.execute(query):
            self._seen.showings[pair_id, voter] = showing

    def _insert(self, table: type[Any], rows: Sequence[dict[str, Any]]) -> int:
        """Inserts rows that are not there yet; returns how many were new."""
        insert = _insert_rows if self._is_sqlite else _insert_json
        return insert(self._session.connection(), table.__tablename__, rows)


def _pair(vote: ImportedVote, prompt_id: str, created: str) -> dict[str, Any]:
    sides = [(vote.left, vote.left_answer), (vote.right, vote.right_answer)]
    (model_1, answer_1), (model_2, answer_2) = sides[::-1] if vote.left > vote.right else sides
    return {
        "id": pair_key(prompt_id, (model_1, model_2), (answer_1, answer_2)), "prompt_id": prompt_id,
        "model_1": model_1, "model_2": model_2, "answer_1": answer_1, "answer_2": answer_2, "created": created,
    }  # fmt: skip


def _insert_rows(connection: Connection, table: str, rows: Sequence[dict[str, Any]]) -> int:
    """On SQLite, through the driver: SQLAlchemy's handling of each value took longer than the insertion."""
    names = ", ".join(rows[0])
    statement = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(rows[0]))})"  # noqa: S608 -- our own names
    if table == PromptRow.__tablename__:
        rows = [row | {"messages": json.dumps(row["messages"]), "topics": "[]"} for row in rows]
    values = [tuple(row.values()) for row in rows]
    return connection.exec_driver_sql(f"{statement} ON CONFLICT DO NOTHING", values).rowcount


def _insert_json(connection: Connection, table: str, rows: Sequence[dict[str, Any]]) -> int:
    """On PostgreSQL, as one parameter: one statement for each row took longer."""
    columns = ", ".join(rows[0])
    statement = text(
        f"INSERT INTO {table} ({columns}) SELECT {columns} "  # noqa: S608 -- names of our own tables
        f"FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json)) ON CONFLICT DO NOTHING"
    )
    return connection.execute(statement, {"rows": json.dumps(rows)}).rowcount


def _naive_utc(value: datetime) -> str:
    """A time as the tables have it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
