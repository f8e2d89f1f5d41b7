"""Feedback on answers, from people, models or programs: a value under a name, a correction, a comment."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import select

from models.database import Database, new_ulid, utcnow
from models.errors import Conflict
from models.evaluation_events import EvaluationResult, send_results
from models.keys import KeyInfo
from models.tables import FeedbackRow, StoredCompletionRow

SourceKind = Literal["human", "model", "code"]
FeedbackValue = bool | float | str | None
NO_VALUE = "none"
"""The label of feedback without a value: a comment or a correction alone, or a rating that was taken back."""
_LONGEST_LABEL = 64


@dataclass(frozen=True)
class Feedback:
    """Feedback from a person, model or program on an answer.

    `answer_id` is the answer's id, or the response's x-request-id. The answer need not be stored.
    """

    answer_id: str
    name: str
    value: FeedbackValue
    correction: str | None = None
    comment: str | None = None
    source_kind: SourceKind = "human"
    source_id: str = ""


@dataclass(frozen=True)
class StoredFeedback:
    """Feedback with its id, the time of its creation, and the id of the key that sent it (empty without keys)."""

    id: str
    created: datetime
    key_id: str
    feedback: Feedback


@dataclass(frozen=True)
class AnsweredBy:
    """The answer that feedback is on: its id, its model and its request's id. An answer that is not stored has only its
    id.
    """

    answer_id: str
    model: str = ""
    request_id: str = ""


def add_feedback(
    database: Database, feedback: Feedback, key: KeyInfo | None = None, idempotency_key: str | None = None
) -> StoredFeedback:
    """Stores feedback, and sends it to OpenTelemetry if an endpoint is set. A repeated request with the same
    idempotency key returns the stored feedback.

    Raises:
        Conflict: the idempotency key was used for other feedback.
    """
    key_id = key.id if key is not None else ""
    with database.write() as session:
        if idempotency_key is not None:
            row = session.scalar(
                select(FeedbackRow).where(FeedbackRow.key_id == key_id, FeedbackRow.idempotency_key == idempotency_key)
            )
            if row is not None:
                stored = _stored(row)
                if stored.feedback != feedback:
                    raise Conflict(
                        "This idempotency_key was used for other feedback: use a new one.", param="idempotency_key"
                    )
                return stored
        row = FeedbackRow(
            id=new_ulid(), created=utcnow(), key_id=key_id, idempotency_key=idempotency_key, **vars(feedback)
        )
        session.add(row)
        session.flush()
        added = _stored(row)
    send_results(_results(database, feedback))
    return added


def list_feedback(
    database: Database, answer_id: str | None = None, *, after: str | None = None, limit: int = 100
) -> tuple[list[StoredFeedback], bool]:
    """At most `limit` entries after the id `after`, oldest first, and whether more follow."""
    query = select(FeedbackRow).order_by(FeedbackRow.id).limit(limit + 1)
    if answer_id is not None:
        query = query.where(FeedbackRow.answer_id == answer_id)
    if after is not None:
        query = query.where(FeedbackRow.id > after)
    with database.read() as session:
        rows = session.scalars(query).all()
        return [_stored(row) for row in rows[:limit]], len(rows) > limit


def feedback_on(database: Database, answer_ids: Sequence[str]) -> dict[str, list[StoredFeedback]]:
    """The feedback on these answers by the id that it refers to, oldest first. At most some thousands of ids."""
    by_answer: dict[str, list[StoredFeedback]] = {}
    query = select(FeedbackRow).where(FeedbackRow.answer_id.in_(answer_ids)).order_by(FeedbackRow.id)
    with database.read() as session:
        for row in session.scalars(query):
            by_answer.setdefault(row.answer_id, []).append(_stored(row))
    return by_answer


def answered_by(database: Database, names: Sequence[str]) -> dict[str, AnsweredBy]:
    """The stored answers with these ids, or whose requests have these ids, by the name that was given."""
    row = StoredCompletionRow
    found: dict[str, AnsweredBy] = {}
    # Only ids of answers have an index.
    for column in (row.id, row.request_id):
        left = [name for name in names if name not in found]
        query = select(column, row.id, row.model, row.request_id).where(column.in_(left))
        with database.read() as session:
            found |= {name: AnsweredBy(*answer) for name, *answer in session.execute(query)} if left else {}
    return found


def result_of(feedback: Feedback, answer: AnsweredBy) -> EvaluationResult:
    """Feedback as the result of an evaluation, without its comment and correction."""
    value = feedback.value
    score = float(value) if isinstance(value, bool | int | float) else None
    label = str(value).lower() if isinstance(value, bool) else NO_VALUE if value is None else str(value)
    details = {"source": feedback.source_kind}
    return EvaluationResult(feedback.name, answer.model, label, score, details, answer.answer_id)


def feedback_names(database: Database) -> list[str]:
    """The names under which feedback is stored."""
    with database.read() as session:
        return sorted(session.scalars(select(FeedbackRow.name).distinct()))


def _results(database: Database, feedback: Feedback) -> Iterator[EvaluationResult]:
    """The result to send. A long text is a comment rather than a label, and comments are not sent."""
    name = feedback.answer_id
    result = result_of(feedback, answered_by(database, [name]).get(name, AnsweredBy(name)))
    yield result if len(result.label) <= _LONGEST_LABEL else replace(result, label="text")


def _stored(row: FeedbackRow) -> StoredFeedback:
    feedback = Feedback(
        row.answer_id, row.name, row.value, row.correction, row.comment, row.source_kind, row.source_id  # type: ignore[arg-type] -- checked when it was added
    )  # fmt: skip
    return StoredFeedback(row.id, row.created, row.key_id, feedback)
