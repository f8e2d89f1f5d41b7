"""Tables of the evals API: evals, their runs, and the output items of the runs."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow


class EvalRow(Base):
    """An eval. `content` has data_source_config, testing_criteria (with their ids) and metadata, as the API has them.

    `digest` is the hash of the request and its key, to recognise a repeated request.
    """

    __tablename__ = "evals"
    __table_args__ = (Index("ix_evals_digest_created", "digest", "created"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[str] = mapped_column(Text)
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    updated: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class EvalRunRow(Base):
    """A run of an eval. Its status is that of its job; `status` is for an imported run, which has none.

    `content` has data_source and metadata as the API has them. `counts` has the results so far: items, criteria and
    the usage of each model. `evaluation_id` is the evaluation with the results of a completed run.
    """

    __tablename__ = "eval_runs"
    __table_args__ = (
        Index("ix_eval_runs_eval_id_number", "eval_id", "number"),
        Index("ix_eval_runs_digest_created", "digest", "created"),
    )

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    eval_id: Mapped[str] = mapped_column(ForeignKey("evals.id"))
    name: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(255))
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(String(64))
    job: Mapped[str | None] = mapped_column(String(26))
    status: Mapped[str | None] = mapped_column(String(16))
    task_hash: Mapped[str | None] = mapped_column(ForeignKey("tasks.hash"))
    evaluation_id: Mapped[str | None] = mapped_column(ForeignKey("evaluations.id"))
    counts: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class EvalItemRow(Base):
    """The output item of one row of a run's data, at its place from 0. Its data is the task's sample at that place.

    `status` is pass, fail or error. `results` has one entry for each testing criterion; `error` is the reason if there
    is no answer.
    """

    __tablename__ = "eval_items"
    __table_args__ = (Index("ix_eval_items_run_id_status", "run_id", "status"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("eval_runs.id"), primary_key=True)
    place: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(8))
    answer_id: Mapped[str | None] = mapped_column(ForeignKey("answers.id"))
    error: Mapped[str | None] = mapped_column(Text)
    results: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
