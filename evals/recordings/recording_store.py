"""Recordings as they are stored: begun, resumed, finished, hashed and listed.

A recording is identified by its model, prompts, parameters and number of samples, so the same command continues it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from evals.campaign_tables import RecordedAnswerRow, RecordingRow
from evals.tables import PromptRow, insert_once
from evals.tasks.answer_cache import parameters_hash
from evals.votes.prompts import Prompt, prompt_digest
from evals.votes.training_prompts import TRAINING_PARAMETER
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.quantities import count_noun

LAST = "last"


@dataclass(frozen=True)
class Recording:
    """A stored recording. `prompts` were to be recorded; `complete` of them have all samples.

    `answers` and `failed` count samples. `finished` is None until every sample was requested. `training`: the prompts
    are training data, so no verdict uses them.
    """

    id: str
    model: str
    prompts: int
    complete: int
    samples: int
    answers: int
    failed: int
    parameters: Mapping[str, Any]
    training: bool
    usd: float | None
    sha256: str | None
    created: datetime
    finished: datetime | None

    @property
    def coverage(self) -> str:
        """As text: "120 of 200 prompts recorded, 3 samples"."""
        samples = f"{count_noun(self.samples, 'sample')}"
        return f"{self.complete:,} of {self.prompts:,} prompts recorded, {samples}"

    def to_json(self) -> dict[str, Any]:
        """The recording as plain JSON values."""
        return vars(self) | {
            "parameters": dict(self.parameters),
            "created": self.created.isoformat(),
            "finished": self.finished.isoformat() if self.finished else None,
        }


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """The SHA-256 of a set of prompts, which does not depend on their order."""
    return hashlib.sha256("\n".join(sorted(prompt_digest(prompt.messages) for prompt in prompts)).encode()).hexdigest()


def begin(
    database: Database,
    model: str,
    prompts: Sequence[Prompt],
    samples: int,
    parameters: Mapping[str, Any],
) -> str:
    """The id of the recording: a new one, or the stored one of the same model, prompts, parameters and samples."""
    row = RecordingRow(
        id=new_ulid(),
        model=model,
        prompts=len(prompts),
        prompts_hash=prompts_hash(prompts),
        samples=samples,
        parameters=dict(parameters),
        parameters_hash=parameters_hash(parameters),
    )
    key = {name: getattr(row, name) for name in ("model", "prompts_hash", "parameters_hash", "samples")}
    with database.write() as session:
        insert_once(session, row)
        return session.scalars(select(RecordingRow.id).filter_by(**key)).one()


def stored_recording(
    database: Database, model: str, prompts: Sequence[Prompt], samples: int, parameters: Mapping[str, Any]
) -> str | None:
    """The id of the recording that `begin` would continue; None if it would begin a new one."""
    query = select(RecordingRow.id).filter_by(
        model=model,
        prompts_hash=prompts_hash(prompts),
        parameters_hash=parameters_hash(parameters),
        samples=samples,
    )
    with database.read() as session:
        return session.scalars(query).first()


@dataclass(frozen=True)
class Answered:
    """The answers that a recording has, as (prompt id, sample), and their tokens."""

    keys: frozenset[tuple[str, int]]
    prompt_tokens: int
    completion_tokens: int


def answered(database: Database, recording_id: str | None) -> Answered:
    """The samples that need not be requested again; none for None."""
    query = select(
        RecordedAnswerRow.prompt_id,
        RecordedAnswerRow.sample,
        RecordedAnswerRow.prompt_tokens,
        RecordedAnswerRow.completion_tokens,
    ).where(RecordedAnswerRow.recording_id == recording_id, RecordedAnswerRow.text.is_not(None))
    with database.read() as session:
        rows = session.execute(query).all()
    return Answered(
        frozenset((row[0], row[1]) for row in rows), sum(row[2] or 0 for row in rows), sum(row[3] or 0 for row in rows)
    )


def store_answers(database: Database, rows: Sequence[RecordedAnswerRow]) -> None:
    """Stores samples in one transaction. A stored answer is never replaced; a stored failure is."""
    key = ("recording_id", "prompt_id", "sample")
    columns = [column.key for column in RecordedAnswerRow.__table__.columns]
    values = [{name: getattr(row, name) for name in columns} | {"created": utcnow()} for row in rows]
    with database.write() as session:
        insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
        statement = insert(RecordedAnswerRow)
        session.execute(
            statement.on_conflict_do_update(
                index_elements=key,
                set_={name: statement.excluded[name] for name in columns if name not in key},
                where=RecordedAnswerRow.text.is_(None),
            ),
            values,
        )


def finish(database: Database, recording_id: str, usd: float | None) -> Recording:
    """Stores the cost; once every sample was requested and at least one was answered, also the hash and the time."""
    with database.write() as session:
        row = session.get_one(RecordingRow, recording_id)
        row.usd = usd
        counts = select(func.count(), func.count(RecordedAnswerRow.text))
        requested, with_text = session.execute(counts.where(RecordedAnswerRow.recording_id == recording_id)).one()
        if with_text and requested == row.prompts * row.samples:
            sha256 = recording_sha256(session, row)
            row.finished = row.finished if row.sha256 == sha256 else utcnow()
            row.sha256 = sha256
    return find_recording(database, recording_id)


def recording_sha256(session: Session, row: RecordingRow) -> str:
    """The SHA-256 over model, parameters and all answers."""
    answer = RecordedAnswerRow
    query = (
        select(PromptRow.digest, answer.sample, answer.text, answer.finish_reason, answer.logprobs)
        .join(PromptRow, PromptRow.id == answer.prompt_id)
        .where(answer.recording_id == row.id)
    )
    about = [row.model, dict(row.parameters), row.samples, row.prompts_hash]
    return answers_sha256(about, [tuple(line) for line in session.execute(query)])


def answers_sha256(about: Sequence[Any], answers: Sequence[tuple[Any, ...]]) -> str:
    """The SHA-256 over a head and answers, each of which starts with its prompt's digest and its sample."""
    digest = hashlib.sha256()
    # Sorted here: databases order text by their collation.
    for line in (list(about), *(list(answer) for answer in sorted(answers, key=lambda line: line[:2]))):
        digest.update(json.dumps(line, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def is_intact(database: Database, recording_id: str) -> bool:
    """Whether a finished recording still has the hash that was stored when it was finished."""
    with database.read() as session:
        row = session.get_one(RecordingRow, recording_id)
        return row.sha256 is not None and recording_sha256(session, row) == row.sha256


def list_recordings(database: Database, model: str | None = None) -> list[Recording]:
    """The recordings, newest first, unfinished ones included; of one model's id if it is given."""
    query = select(RecordingRow).order_by(RecordingRow.id.desc())
    if model is not None:
        query = query.where(RecordingRow.model == model)
    with database.read() as session:
        return _recordings(session, list(session.scalars(query)))


def find_recording(database: Database, wanted: str) -> Recording:
    """A recording by its id, its ending (at least four characters), or `last`.

    Raises:
        NotFound: there is none. Invalid: several ids have this ending.
    """
    with database.read() as session:
        rows = list(session.scalars(select(RecordingRow).order_by(RecordingRow.id.desc())))
        if wanted == LAST:
            rows = rows[:1]
        else:
            rows = [row for row in rows if len(wanted) >= 4 and row.id.endswith(wanted.upper())]
        if not rows:
            raise NotFound(f"There is no recording {wanted!r}. `parley recordings list` shows them.", param="recording")
        if len(rows) > 1:
            raise Invalid(f"{len(rows)} recording ids end in {wanted!r}: use more characters.", param="recording")
        return _recordings(session, rows)[0]


def _recordings(session: Session, rows: Sequence[RecordingRow]) -> list[Recording]:
    counted = (
        select(RecordedAnswerRow.recording_id, func.count(), func.count(RecordedAnswerRow.text))
        .where(RecordedAnswerRow.recording_id.in_([row.id for row in rows]))
        .group_by(RecordedAnswerRow.recording_id, RecordedAnswerRow.prompt_id)
    )
    by_recording: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for recording_id, requested, with_text in session.execute(counted):
        by_recording[recording_id].append((requested, with_text))
    return [
        Recording(
            id=row.id,
            model=row.model,
            prompts=row.prompts,
            complete=sum(with_text >= row.samples for _, with_text in by_recording[row.id]),
            samples=row.samples,
            answers=sum(with_text for _, with_text in by_recording[row.id]),
            failed=sum(requested - with_text for requested, with_text in by_recording[row.id]),
            parameters={name: value for name, value in row.parameters.items() if name != TRAINING_PARAMETER},
            training=bool(row.parameters.get(TRAINING_PARAMETER)),
            usd=row.usd,
            sha256=row.sha256,
            created=row.created,
            finished=row.finished,
        )
        for row in rows
    ]
