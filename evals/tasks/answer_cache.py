"""The cache of answers: stored by (model version, prompt, parameters), read before a run and written during it."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from evals.scorers.catalog import Answer
from evals.tables import AnswerRow, insert_many_once
from models.chat.messages import Completion
from models.database import Database, new_ulid

_STORE_EVERY_S = 0.25
_PROMPTS_PER_QUERY = 500  # SQLite takes 32,766 variables, others fewer


@dataclass(frozen=True)
class Outcome:
    """The result of one sample at one model: an answer (with its row's id) or an error, never both."""

    answer: Answer | None = None
    answer_id: str | None = None
    error: str | None = None


def parameters_hash(parameters: Mapping[str, Any], salt: str = "") -> str:
    """The SHA-256 of the parameters, independent of their order. Runs with different salts do not share answers."""
    return hashlib.sha256((json.dumps(dict(parameters), sort_keys=True) + salt).encode()).hexdigest()


def storable_text(text: str) -> str:
    """The text without lone surrogates (\\ud800) and NUL, which databases refuse and a model's JSON may contain."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")


@dataclass
class AnswerCache:
    """The answers of a run: stored ones, and new ones that wait to be written.

    `outcomes` is keyed by (model, prompt hash).
    """

    database: Database
    parameters_hash: str
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    pending: list[AnswerRow] = field(default_factory=list)

    def read(self, models: Sequence[str], hashes: Sequence[str]) -> None:
        """Loads the stored answers of these models to these prompts."""
        for start in range(0, len(hashes), _PROMPTS_PER_QUERY):
            query = select(AnswerRow).where(
                AnswerRow.parameters_hash == self.parameters_hash,
                AnswerRow.model.in_(models),
                AnswerRow.prompt_hash.in_(hashes[start : start + _PROMPTS_PER_QUERY]),
            )
            with self.database.read() as session:
                for row in session.scalars(query):
                    self.outcomes[row.model, row.prompt_hash] = _outcome(row)

    def add(self, model: str, prompt_hash: str, completion: Completion) -> Answer:
        """Adds a new answer, to be written soon."""
        row = AnswerRow(
            id=new_ulid(),
            model=model,
            prompt_hash=prompt_hash,
            parameters_hash=self.parameters_hash,
            text=storable_text(completion.text),
            seconds=completion.seconds,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            finish_reason=completion.finish_reason,
            tool_calls=list(completion.tool_calls) or None,
        )
        self.outcomes[model, prompt_hash] = outcome = _outcome(row)
        self.pending.append(row)
        assert outcome.answer is not None
        return outcome.answer

    async def write_continuously(self) -> None:
        """Writes pending answers until it is cancelled."""
        # Many answers in one transaction: a flush to the disk takes as long as a short answer.
        while True:
            await asyncio.sleep(_STORE_EVERY_S)
            if self.pending:
                await asyncio.shield(asyncio.to_thread(self.write, self.take_pending()))

    def take_pending(self) -> list[AnswerRow]:
        """Hands the pending rows to the caller. Call it on the event loop's thread, so that no row is lost."""
        rows, self.pending = self.pending, []
        return rows

    def write(self, rows: Sequence[AnswerRow]) -> None:
        """Writes the rows. If another run stored an answer to the same prompt first, that one is used."""
        if not rows:
            return
        with self.database.write() as session:
            inserted = insert_many_once(session, rows)
            for row in rows:
                if row.id in inserted:
                    continue
                first = select(AnswerRow).where(
                    AnswerRow.model == row.model,
                    AnswerRow.prompt_hash == row.prompt_hash,
                    AnswerRow.parameters_hash == row.parameters_hash,
                )
                self.outcomes[row.model, row.prompt_hash] = _outcome(session.scalars(first).one())


def _outcome(row: AnswerRow) -> Outcome:
    answer = Answer(
        text=row.text,
        model=row.model,
        seconds=row.seconds,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        finish_reason=row.finish_reason,
        id=row.id,
        tool_calls=tuple(row.tool_calls or ()),
    )
    return Outcome(answer, row.id)
