"""Storage of imported votes in short transactions, so that raters, ratings and other imports are not blocked."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.imports.keys import as_ulid, pair_key, prompt_digest
from evals.votes.imports.matches import NewVote
from evals.votes.imports.rows import ImportedVote
from evals.votes.prompts import IMPORTED
from models.database import Database, utcnow

_BATCH = 5000  # votes in one transaction: about half a second
_PAUSE = 0.1  # the share of a batch's time that SQLite's lock then stays free: a waiting voter looks for it in steps
_CACHE_KIB = 65_536
_IMPORT_LOCK = 7_140_501  # PostgreSQL's advisory lock that makes batches of several imports take turns
_PROMPT = ("id", "digest", "messages", "category", "topics", "held_out", "source", "created")
_PAIR = ("id", "prompt_id", "model_1", "model_2", "answer_1", "answer_2", "created")
_BATTLE = (
    "id", "pair_id", "voter", "showing", "flipped", "again", "campaign", "gold", "revealed", "undone", "import_id",
    "created",
)  # fmt: skip
_VOTE = ("battle_id", "voter", "choice", "created")


def store_votes(
    database: Database,
    votes: Sequence[NewVote],
    *,
    import_id: str,
    campaign: str,
    report: Callable[[int], None] = lambda done: None,
) -> int:
    """Stores votes; returns how many are new. Votes that another process stores at the same time are left out.

    Args:
        report: is called after each batch with the number of votes that are done.
    """
    new, lookups = 0, _Lookups()
    rows = _rows(votes)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        began = time.monotonic()
        with database.write() as session:
            new += _Batch(session, import_id, campaign, lookups).store(batch)
        if database.is_sqlite:
            time.sleep(_PAUSE * (time.monotonic() - began))
        report(start + len(batch))
    return new


@dataclass(frozen=True, slots=True)
class _Row:
    """A vote to store. `pair`: the values for _PAIR, with the id that its prompt gets if it is new."""

    vote: ImportedVote
    battle_id: str
    digest: str
    pair: tuple[str, ...]
    created: str

    @property
    def pair_id(self) -> str:
        return self.pair[0]


def _rows(votes: Sequence[NewVote]) -> list[_Row]:
    """The votes by the id of their pair, in the file's order within one: a batch then changes few pages of the indexes.

    Ids are hashes, so that in the file's order each batch changes pages everywhere.
    """
    now = utcnow()
    created, prompts, rows = _naive_utc(now), {}, []
    for place, new in enumerate(votes):
        vote = new.vote
        digest = prompt_digest(vote.content)
        if digest not in prompts:
            prompts[digest] = as_ulid(digest)
        # A vote without a time keeps the file's order.
        when = _naive_utc(vote.when or now + timedelta(microseconds=place))
        rows.append(_Row(vote, new.battle_id, digest, _pair(vote, prompts[digest], created), when))
    rows.sort(key=attrgetter("pair_id"))
    return rows


@dataclass(frozen=True)
class _Lookups:
    """What earlier batches stored: prompts' ids by digest, and the last showing of each pair to each voter."""

    prompts: dict[str, str] = field(default_factory=dict)
    showings: dict[tuple[str, str], int] = field(default_factory=dict)


class _Batch:
    """One transaction of an import."""

    def __init__(self, session: Session, import_id: str, campaign: str, lookups: _Lookups) -> None:
        self._session, self._import_id, self._campaign, self._lookups = session, import_id, campaign, lookups
        self._is_sqlite = session.get_bind().dialect.name == "sqlite"
        self._created = _naive_utc(utcnow())
        if self._is_sqlite:
            session.connection().exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
        else:
            session.execute(text(f"SELECT pg_advisory_xact_lock({_IMPORT_LOCK})"))

    def store(self, batch: Sequence[_Row]) -> int:
        """Stores the batch's prompts, pairs, battles and votes; returns how many votes are new."""
        prompts = self._store_prompts(batch)
        batch = [self._with_prompt(row, prompts[row.digest]) for row in batch]
        self._insert(PairRow, _PAIR, list({row.pair_id: row.pair for row in batch}.values()))
        self._store_battles(batch)
        votes = sorted((row.battle_id, row.vote.voter, row.vote.choice, row.created) for row in batch)
        return self._insert(VoteRow, _VOTE, votes)

    def _store_prompts(self, batch: Sequence[_Row]) -> dict[str, str]:
        """The ids of the batch's prompts by their digest."""
        new = {row.digest: row for row in batch if row.digest not in self._lookups.prompts}
        if not new:
            return self._lookups.prompts
        self._lookups.prompts.update(self._prompt_ids(list(new)))
        missing = [
            (
                row.pair[1], digest, row.vote.content, row.vote.category, [], False, IMPORTED,
                self._created,
            )
            for digest, row in new.items()
            if digest not in self._lookups.prompts
        ]  # fmt: skip
        if missing:
            self._insert(PromptRow, _PROMPT, missing)
            self._lookups.prompts.update(self._prompt_ids([row[1] for row in missing]))
        return self._lookups.prompts

    def _with_prompt(self, row: _Row, prompt_id: str) -> _Row:
        """The row with the prompt's id, which differs if the prompt was not imported."""
        return row if row.pair[1] == prompt_id else replace(row, pair=_pair(row.vote, prompt_id, self._created))

    def _prompt_ids(self, digests: Sequence[str]) -> dict[str, str]:
        query = select(PromptRow.digest, PromptRow.id).where(PromptRow.digest.in_(digests))
        return {row.digest: row.id for row in self._session.execute(query)}

    def _store_battles(self, rows: Sequence[_Row]) -> None:
        while self._insert(BattleRow, _BATTLE, [self._battle(row) for row in rows]) < len(rows):
            # The battle is already stored, or the pair was shown to the voter before this import.
            query = select(BattleRow.id).where(BattleRow.id.in_([row.battle_id for row in rows]))
            present = set(self._session.scalars(query))
            rows = [row for row in rows if row.battle_id not in present]
            if not rows:
                break
            self._read_showings(rows)

    def _battle(self, row: _Row) -> tuple[Any, ...]:
        """The battle's values for _BATTLE. It is numbered after the known showings of the pair to the voter."""
        vote, pair_id = row.vote, row.pair_id
        key = (pair_id, vote.voter)
        showing = self._lookups.showings[key] = self._lookups.showings.get(key, -1) + 1
        return (
            row.battle_id, pair_id, vote.voter, showing, vote.left > vote.right, vote.again, self._campaign, False,
            self._created, 0, self._import_id, self._created,
        )  # fmt: skip

    def _read_showings(self, rows: Sequence[_Row]) -> None:
        query = (
            select(BattleRow.pair_id, BattleRow.voter, func.max(BattleRow.showing))
            .where(BattleRow.pair_id.in_({row.pair_id for row in rows}), BattleRow.campaign == self._campaign)
            .group_by(BattleRow.pair_id, BattleRow.voter)
        )
        for pair_id, voter, showing in self._session.execute(query):
            self._lookups.showings[pair_id, voter] = showing

    def _insert(self, table: type[Any], columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> int:
        """Inserts rows that are not there yet; returns how many were new."""
        insert = _insert_rows if self._is_sqlite else _insert_json
        return insert(self._session.connection(), table.__tablename__, columns, rows)


def _pair(vote: ImportedVote, prompt_id: str, created: str) -> tuple[str, ...]:
    """A pair's values for _PAIR."""
    models, answers = (vote.left, vote.right), (vote.left_answer, vote.right_answer)
    if vote.left > vote.right:
        models, answers = models[::-1], answers[::-1]
    return (pair_key(prompt_id, models, answers), prompt_id, *models, *answers, created)


def _insert_rows(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> int:
    """On SQLite, through the driver: SQLAlchemy's handling of each value took longer than the insertion."""
    values = ", ".join("?" * len(columns))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({values})"  # noqa: S608 -- our own names
    if table == PromptRow.__tablename__:
        rows = [tuple(json.dumps(value) if isinstance(value, list) else value for value in row) for row in rows]
    return connection.exec_driver_sql(f"{statement} ON CONFLICT DO NOTHING", rows).rowcount


def _insert_json(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> int:
    """On PostgreSQL, as one parameter: one statement for each row took longer."""
    names = ", ".join(columns)
    statement = text(
        f"INSERT INTO {table} ({names}) SELECT {names} "  # noqa: S608 -- names of our own tables
        f"FROM json_populate_recordset(NULL::{table}, CAST(:rows AS json)) ON CONFLICT DO NOTHING"
    )
    given = [dict(zip(columns, row, strict=True)) for row in rows]
    return connection.execute(statement, {"rows": json.dumps(given)}).rowcount


def _naive_utc(value: datetime) -> str:
    """A time as the tables have it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
