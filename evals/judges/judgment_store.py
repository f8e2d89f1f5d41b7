"""Judgments in the database: stored ones are reused, missing ones are requested and stored.

A judgment that could not be parsed is stored as null, and requested again by the next run.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import select

from evals.judges.answer_pairs import AnswerPair
from evals.judges.judge import Judge, Judgment, Presentation
from evals.request_pool import RequestPool
from evals.tables import AnswerJudgmentRow, JudgmentRow, insert_once
from models.database import Database, new_ulid
from models.errors import ParleyError

Key = tuple[str, Presentation]
"""A pair's id and how its answers were shown."""


@dataclass(frozen=True)
class Judgments:
    """Judgments by key. A judgment that could not be requested is missing and has its error in `errors`."""

    by_key: Mapping[Key, Judgment]
    errors: Mapping[Key, str]


@dataclass(frozen=True)
class JudgmentStore:
    """A judge's judgments in one table: of stored pairs, or of the answers of evaluations."""

    database: Database
    judge: Judge
    table: type[JudgmentRow] | type[AnswerJudgmentRow] = JudgmentRow

    async def collect(
        self, pairs: Sequence[AnswerPair], presentations: Sequence[Presentation], pool: RequestPool, label: str
    ) -> Judgments:
        """The judgments of all pairs in all these presentations; counts one request in the pool for each."""
        by_key = await asyncio.to_thread(self.stored, pairs, presentations)
        errors: dict[Key, str] = {}
        missing = [(pair, way) for pair in pairs for way in presentations if (pair.id, way) not in by_key]
        pool.skip(len(pairs) * len(presentations) - len(missing))

        async def request(question: tuple[AnswerPair, Presentation]) -> None:
            pair, way = question
            try:
                judgment = await self.judge.judge(pair, way)
            except ParleyError as error:
                errors[pair.id, way] = error.message
                raise
            await asyncio.to_thread(self._save, pair, way, judgment)
            by_key[pair.id, way] = judgment

        await pool.map(missing, request, label)
        return Judgments(by_key, errors)

    def stored(self, pairs: Sequence[AnswerPair], presentations: Sequence[Presentation]) -> dict[Key, Judgment]:
        """The judgments that earlier runs stored and parsed."""
        keys = {pair.id: self.judge.key(pair) for pair in pairs}
        query = select(self.table).where(
            self.table.judge == self.judge.model,
            self.table.rubric_hash.in_(set(keys.values())),
            self.table.shown.in_(presentations),
            self.table.verdict.is_not(None),
        )
        with self.database.read() as session:
            return {
                (row.pair_id, cast(Presentation, row.shown)): Judgment(
                    row.verdict, row.raw, row.expected, row.scores, row.reasons
                )
                for row in session.scalars(query)
                if keys.get(row.pair_id) == row.rubric_hash
            }

    def _save(self, pair: AnswerPair, presentation: Presentation, judgment: Judgment) -> None:
        """Stores a judgment; one that is stored and was parsed stays as it is."""
        key = {
            "pair_id": pair.id,
            "judge": self.judge.model,
            "rubric_hash": self.judge.key(pair),
            "shown": presentation,
        }
        columns = _columns(judgment)
        with self.database.write() as session:
            if insert_once(session, self.table(id=new_ulid(), **key, **columns)):
                return
            row = session.scalars(select(self.table).filter_by(**key)).one()
            if row.verdict is None:
                for name, value in columns.items():
                    setattr(row, name, value)


def _columns(judgment: Judgment) -> dict[str, Any]:
    return {
        "verdict": judgment.verdict,
        "expected": judgment.expected,
        "scores": judgment.scores and {side: dict(scores) for side, scores in judgment.scores.items()},
        "reasons": judgment.reasons,
        "raw": judgment.raw,
    }
