"""This room's tables: the API's fine-tuning jobs, their events and their checkpoints."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow


class FineTuningRow(Base):
    """One fine-tuning job. The worker's part of it is a row of `jobs`, a new one after each resume."""

    __tablename__ = "fine_tuning_jobs"
    __table_args__ = (Index("ix_fine_tuning_jobs_digest_created", "digest", "created"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    digest: Mapped[str] = mapped_column(String(64))
    base: Mapped[str] = mapped_column(String(255))
    name: Mapped[str] = mapped_column(String(255), unique=True)
    organization: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    paused: Mapped[bool] = mapped_column(default=False)
    job: Mapped[str] = mapped_column(String(26))
    hyperparameters: Mapped[dict[str, Any]] = mapped_column(JSON)
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    estimated_finish: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)
    trained_tokens: Mapped[int | None] = mapped_column(BigInteger)
    result_files: Mapped[list[str]] = mapped_column(JSON, default=list)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON)


class FineTuningEventRow(Base):
    """A job's message, or the metrics of a step; ordered by `number`."""

    __tablename__ = "fine_tuning_events"
    __table_args__ = (Index("ix_fine_tuning_events_job_number", "job", "number"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    level: Mapped[str] = mapped_column(String(8), default="info")
    type: Mapped[str] = mapped_column(String(8), default="message")
    message: Mapped[str] = mapped_column(Text)
    data: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    step: Mapped[int | None] = mapped_column()


class FineTuningCheckpointRow(Base):
    """The model at the end of an epoch, registered under its own name."""

    __tablename__ = "fine_tuning_checkpoints"
    __table_args__ = (Index("ix_fine_tuning_checkpoints_job_step", "job", "step", unique=True),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    job: Mapped[str] = mapped_column(ForeignKey("fine_tuning_jobs.id"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    step: Mapped[int] = mapped_column()
    model: Mapped[str] = mapped_column(String(255))
    metrics: Mapped[dict[str, Any]] = mapped_column(JSON)
