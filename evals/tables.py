"""This room's tables: prompts, pairs of answers, battles, votes, judgments, rubrics; tasks, answers, evaluations.

A pair is a prompt with two stored answers, and may be shown to several people; a battle is one showing of it to one
person, with its order of sides. Unique constraints keep a vote from counting twice. Campaigns and recordings have their
tables in `evals.campaign_tables`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, inspect, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from evals import api_tables  # noqa: F401 -- its tables belong to the metadata wherever these do
from evals.campaign_tables import OPEN_CAMPAIGN
from models.database import Base, UtcDateTime, utcnow


class PromptRow(Base):
    """A conversation that ends with the user's turn. The digest makes it unique."""

    __tablename__ = "prompts"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    messages: Mapped[list[dict[str, str]]] = mapped_column(JSON)
    category: Mapped[str | None] = mapped_column(String(255), index=True)
    topics: Mapped[list[Any]] = mapped_column(JSON, default=list)
    held_out: Mapped[bool] = mapped_column(default=False)
    source: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class PairRow(Base):
    """Two models' answers to one prompt; the models are in sorted order, so that each comparison has one form."""

    __tablename__ = "pairs"
    __table_args__ = (
        # Python sorts them; the database only checks that they differ, since its collation may be different.
        CheckConstraint("model_1 <> model_2", name="two_models"),
        Index("ix_pairs_model_1_model_2_prompt_id", "model_1", "model_2", "prompt_id"),
    )

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    prompt_id: Mapped[str] = mapped_column(ForeignKey("prompts.id"), index=True)
    # No foreign key to the models: votes outlive their models, and imports have unknown models.
    model_1: Mapped[str] = mapped_column(String(255))
    model_2: Mapped[str] = mapped_column(String(255))
    answer_1: Mapped[str] = mapped_column(Text)
    answer_2: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class BattleRow(Base):
    """One showing of a pair to one voter. `flipped`: model_2's answer is on the left.

    `showing` is 0 for the first showing of the pair to this voter. `again`: shown again on purpose, much later; such a
    vote measures the voter's consistency and nothing else.
    """

    __tablename__ = "battles"
    __table_args__ = (
        UniqueConstraint("pair_id", "voter", "showing", "campaign"),
        # With an index on each alone, SQLite reads all battles of a campaign to find one voter's.
        Index("ix_battles_voter_campaign", "voter", "campaign"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"))
    voter: Mapped[str] = mapped_column(String(255))
    showing: Mapped[int] = mapped_column(default=0)
    flipped: Mapped[bool] = mapped_column()
    again: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    campaign: Mapped[str] = mapped_column(
        ForeignKey("campaigns.name"), index=True, default=OPEN_CAMPAIGN, server_default=OPEN_CAMPAIGN
    )
    # The probability with which this pair of models was drawn; None if it is unknown.
    probability: Mapped[float | None] = mapped_column()
    # The pair is a gold pair, whose better answer is known.
    gold: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    skip_reason: Mapped[str | None] = mapped_column(String(64))
    comment: Mapped[str | None] = mapped_column(Text)
    # When the models' names were shown. A vote that changes after that is not blind.
    revealed: Mapped[datetime | None] = mapped_column(UtcDateTime)
    undone: Mapped[int] = mapped_column(default=0, server_default="0")
    import_id: Mapped[str | None] = mapped_column(ForeignKey("vote_imports.id"), index=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class VoteRow(Base):
    """A voter's choice as it was shown: left, right, tie or both_bad. A battle has one voter and one vote."""

    __tablename__ = "votes"

    battle_id: Mapped[str] = mapped_column(ForeignKey("battles.id"), primary_key=True)
    voter: Mapped[str] = mapped_column(String(255), index=True)
    choice: Mapped[str] = mapped_column(String(16))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, index=True)


class _JudgmentColumns:
    """The columns of a judge's judgment."""

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    judge: Mapped[str] = mapped_column(String(255))
    rubric_hash: Mapped[str] = mapped_column(String(64))
    shown: Mapped[str] = mapped_column(String(2))
    verdict: Mapped[int | None] = mapped_column()
    expected: Mapped[float | None] = mapped_column()
    scores: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    reasons: Mapped[str | None] = mapped_column(Text)
    raw: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class JudgmentRow(_JudgmentColumns, Base):
    """A judge's judgment of a pair. `shown`: "12" or "21" compares, in that order; "1" or "2" grades one answer.

    `verdict` is 1, 2 or 0 for a tie (pointwise: the grade); None if the judge's text could not be parsed. `scores`
    has a dict of criteria for each model shown, under "1" and "2". `expected` is model_1's share of the win (pointwise:
    the grade) averaged over token probabilities, None if unknown. `rubric_hash` has a suffix if the judge saw
    more than the plain question: see `evals.judges.judge.Judge.key`.
    """

    __tablename__ = "judgments"
    __table_args__ = (UniqueConstraint("pair_id", "judge", "rubric_hash", "shown"),)

    pair_id: Mapped[str] = mapped_column(ForeignKey("pairs.id"))


class AnswerJudgmentRow(_JudgmentColumns, Base):
    """As `JudgmentRow`, on answers of evaluations.

    `pair_id`: an answer's id, or two joined by a colon; then, after another colon, the start of the reference answer's
    hash if there is one, since one answer may be judged against several references.
    """

    __tablename__ = "answer_judgments"
    __table_args__ = (UniqueConstraint("pair_id", "judge", "rubric_hash", "shown"),)

    pair_id: Mapped[str] = mapped_column(String(66))


class RubricRow(Base):
    """A rubric that a judge has used, under its hash, so that an old result's rubric can still be read."""

    __tablename__ = "rubrics"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), index=True)
    version: Mapped[str] = mapped_column(String(32))
    content: Mapped[str] = mapped_column(Text)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class TaskRow(Base):
    """A task that was run, under the hash of its content; it is stored once, whatever its name."""

    __tablename__ = "tasks"

    hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    samples: Mapped[int] = mapped_column()
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class TaskSampleRow(Base):
    """One sample of a task, as `evals.tasks.task.TaskSample.to_json` writes it, at its place from 0."""

    __tablename__ = "task_samples"

    task_hash: Mapped[str] = mapped_column(ForeignKey("tasks.hash"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class AnswerRow(Base):
    """A model version's answer to a prompt under some parameters; requested once, used by every evaluation."""

    __tablename__ = "answers"
    __table_args__ = (UniqueConstraint("model", "prompt_hash", "parameters_hash"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    model: Mapped[str] = mapped_column(String(255))
    prompt_hash: Mapped[str] = mapped_column(String(64))
    parameters_hash: Mapped[str] = mapped_column(String(64))
    text: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column()
    prompt_tokens: Mapped[int | None] = mapped_column()
    completion_tokens: Mapped[int | None] = mapped_column()
    finish_reason: Mapped[str | None] = mapped_column(String(64))
    # The answer's tool calls in OpenAI's format; None if there are none.
    tool_calls: Mapped[list[dict[str, Any]] | None] = mapped_column(JSON(none_as_null=True))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class EvaluationRow(Base):
    """One run of a task over models. `finished` is None while it runs, and after a kill, when the same run resumes it.

    `key` is the hash of task, models, parameters and scorer names; `scorers` has each one's name, direction and range.
    """

    __tablename__ = "evaluations"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    key: Mapped[str] = mapped_column(String(64), index=True)
    task: Mapped[str] = mapped_column(String(255))
    source: Mapped[str] = mapped_column(Text)
    task_hash: Mapped[str] = mapped_column(ForeignKey("tasks.hash"))
    left_out: Mapped[int] = mapped_column(default=0)
    models: Mapped[list[str]] = mapped_column(JSON)
    parameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    scorers: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    notes: Mapped[list[str]] = mapped_column(JSON, default=list)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ResultRow(Base):
    """One model on one sample of an evaluation: its answer with scores by scorer, or the error instead of both.

    A score is null if there is no reference; `score_errors` has the errors of scorers.
    """

    __tablename__ = "evaluation_results"

    evaluation_id: Mapped[str] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    model: Mapped[str] = mapped_column(String(255), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    answer_id: Mapped[str | None] = mapped_column(ForeignKey("answers.id"))
    error: Mapped[str | None] = mapped_column(Text)
    scores: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    score_errors: Mapped[dict[str, str]] = mapped_column(JSON, default=dict)


def insert_once(session: Session, row: Base) -> bool:
    """Inserts a row unless a unique constraint has it already; returns whether it is new.

    Unlike select-then-insert, this is safe when two processes do it at once.
    """
    # Unset columns get their defaults, as in any insert.
    columns = inspect(type(row)).columns
    values = {c.key: value for c in columns if (value := getattr(row, c.key)) is not None}
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(type(row)).values(values).on_conflict_do_nothing()
    return session.execute(statement.returning(next(iter(columns)))).first() is not None


def insert_many_once(session: Session, rows: Sequence[Base]) -> set[Any]:
    """As `insert_once` for many rows of one table, in one statement; returns the primary keys of the new ones.

    Columns with a default always get it.
    """
    columns = inspect(type(rows[0])).columns
    key = next(iter(columns))
    values = [{c.key: getattr(row, c.key) for c in columns if c.default is None} for row in rows]
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    session.execute(insert(type(rows[0])).on_conflict_do_nothing(), values)
    return set(session.scalars(select(key).where(key.in_([getattr(row, key.key) for row in rows]))))
