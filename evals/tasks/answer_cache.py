"""Answers on their way into the database and out of it: kept by (model version, prompt, parameters). It asks nobody."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from evals.scorers.catalog import Answer
from evals.tables import AnswerRow, insert_many_once
from models.database import Database, new_ulid
from models.messages import Completion

_STORE_EVERY_S = 0.25
_LOOKED_UP_AT_ONCE = 500  # prompts in one query: SQLite takes 32,766 variables, others fewer


@dataclass(frozen=True)
class Outcome:
    """What became of one sample at one model: an answer (with its row's id) or an error, never both."""

    answer: Answer | None = None
    answer_id: str | None = None
    error: str | None = None


def parameters_hash(parameters: Mapping[str, Any]) -> str:
    """The SHA-256 of the parameters, whatever their order."""
    return hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()


@dataclass
class Kept:
    """The answers of a run: those that were stored, and new ones on their way into the database."""

    database: Database
    parameters_hash: str
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    waiting: list[AnswerRow] = field(default_factory=list)

    def read(self, models: Sequence[str], hashes: Sequence[str]) -> None:
        for start in range(0, len(hashes), _LOOKED_UP_AT_ONCE):
            query = select(AnswerRow).where(
                AnswerRow.parameters_hash == self.parameters_hash,
                AnswerRow.model.in_(models),
                AnswerRow.prompt_hash.in_(hashes[start : start + _LOOKED_UP_AT_ONCE]),
            )
            with self.database.read() as session:
                for row in session.scalars(query):
                    self.outcomes[row.model, row.prompt_hash] = _outcome(row)

    def add(self, model: str, key: str, said: Completion) -> Answer:
        """Keeps an answer, as it will be stored."""
        row = AnswerRow(
            id=new_ulid(),
            model=model,
            prompt_hash=key,
            parameters_hash=self.parameters_hash,
            # A database refuses half a character (\ud800), which a model's JSON may hold.
            text=said.text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd"),
            seconds=said.seconds,
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
            finish_reason=said.finish_reason,
        )
        self.outcomes[model, key] = outcome = _outcome(row)
        self.waiting.append(row)
        assert outcome.answer is not None
        return outcome.answer

    async def store_for_ever(self) -> None:
        # Many answers in one transaction, beside the asking: a flush to the disk takes as long as a short answer.
        while True:
            await asyncio.sleep(_STORE_EVERY_S)
            if self.waiting:
                await asyncio.shield(asyncio.to_thread(self.store, self.take()))

    def take(self) -> list[AnswerRow]:
        """What waits to be stored, from now on the caller's: taken by the loop's own thread, so that none is lost."""
        rows, self.waiting = self.waiting, []
        return rows

    def store(self, rows: Sequence[AnswerRow]) -> None:
        """Writes the rows. Where another run stored an answer to the same question first, that one counts."""
        if not rows:
            return
        with self.database.write() as session:
            there = insert_many_once(session, rows)
            for row in rows:
                if row.id in there:
                    continue
                same = select(AnswerRow).where(
                    AnswerRow.model == row.model,
                    AnswerRow.prompt_hash == row.prompt_hash,
                    AnswerRow.parameters_hash == row.parameters_hash,
                )
                self.outcomes[row.model, row.prompt_hash] = _outcome(session.scalars(same).one())


def _outcome(row: AnswerRow) -> Outcome:
    answer = Answer(
        text=row.text,
        model=row.model,
        seconds=row.seconds,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        finish_reason=row.finish_reason,
        id=row.id,
    )
    return Outcome(answer, row.id)
