"""Judgments in the database: stored ones are reused, missing ones are requested and stored.

A judgment that could not be parsed is stored as null, and requested again by the next run.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import select

from evals.judges.answer_pairs import AnswerPair
from evals.judges.judge import POINTWISE, Judge, Judgment, Presentation
from evals.request_pool import RequestPool
from evals.tables import AnswerJudgmentRow, JudgmentRow, insert_once
from models.database import Database, new_ulid
from models.errors import ParleyError
from models.evaluation_events import EvaluationResult, send_results

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
            if not insert_once(session, self.table(id=new_ulid(), **key, **columns)):
                row = session.scalars(select(self.table).filter_by(**key)).one()
                if row.verdict is not None:
                    return
                for name, value in columns.items():
                    setattr(row, name, value)
        send_results(self._evaluation_results(pair, presentation, judgment))

    def _evaluation_results(
        self, pair: AnswerPair, presentation: Presentation, judgment: Judgment
    ) -> Iterator[EvaluationResult]:
        """One result for each judged model; none if the judgment was not parsed or the models are unknown."""
        if judgment.verdict is None or not pair.models:
            return
        name = f"judge:{self.judge.model}@{self.judge.rubric.name}"
        details = {"pair": pair.id, "shown": presentation}
        if presentation in POINTWISE:
            model = pair.models[int(presentation) - 1]
            yield EvaluationResult(name, model, str(judgment.verdict), judgment.grade, details)
            return
        for side, model, opponent in ((1, *pair.models), (2, *reversed(pair.models))):
            label = "won" if judgment.verdict == side else "lost" if judgment.verdict else "tie"
            share = judgment.share if side == 1 else 1 - judgment.share
            yield EvaluationResult(name, model, label, share, details | {"opponent": opponent})


def _columns(judgment: Judgment) -> dict[str, Any]:
    return {
        "verdict": judgment.verdict,
        "expected": judgment.expected,
        "scores": judgment.scores and {side: dict(scores) for side, scores in judgment.scores.items()},
        "reasons": judgment.reasons,
        "raw": judgment.raw,
    }
