"""This room's tables: models, aliases, keys, usage, limits, jobs, files, uploads, audit, completions and feedback."""

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow


class ModelRow(Base):
    """One model: the spec as JSON, and columns that are searched or change."""

    __tablename__ = "models"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), index=True)
    spec: Mapped[dict[str, Any]] = mapped_column(JSON)
    # A pinned engine is never stopped to make room for another.
    pinned: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class AliasRow(Base):
    """Another name for a model. An alias can move; an id cannot.

    `weights`: model id → weight, if requests are split between models; `target` then has the largest weight.
    """

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(String(255), primary_key=True)
    target: Mapped[str] = mapped_column(ForeignKey("models.id"))
    weights: Mapped[dict[str, float] | None] = mapped_column(JSON(none_as_null=True))


class RevisionRow(Base):
    """One number that every change relevant to the gateway raises. One row, because it is polled."""

    __tablename__ = "revision"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(default=0)


class KeyRow(Base):
    """An API key: its SHA-256 digest, never the key."""

    __tablename__ = "keys"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    role: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # The models it may use (null: all), and its limits (null: none).
    models: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    requests_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    daily_tokens: Mapped[int | None] = mapped_column(BigInteger)
    daily_usd: Mapped[float | None] = mapped_column()


class UsageRow(Base):
    """One key's usage of one model on one UTC day. The gateway only adds to it.

    `key_id` is empty for requests without a key. There are no foreign keys, so that usage survives deletions.
    """

    __tablename__ = "usage"

    day: Mapped[date] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    model_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    requests: Mapped[int] = mapped_column(BigInteger, default=0)
    failed: Mapped[int] = mapped_column(BigInteger, default=0)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    completion_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    usd: Mapped[float] = mapped_column(default=0.0)


class UsageBatchRow(Base):
    """The last batch of usage that a gateway has written: see `models.usage.add_usage`."""

    __tablename__ = "usage_batches"

    writer: Mapped[str] = mapped_column(String(255), primary_key=True)
    id: Mapped[str] = mapped_column(String(26))


class JobRow(Base):
    """A long-running job: queued, leased by a worker, or ended. Heartbeats renew the lease."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_status_created", "status", "created"),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    params: Mapped[dict[str, Any]] = mapped_column(JSON)
    status: Mapped[str] = mapped_column(String(16), default="queued")
    progress: Mapped[float] = mapped_column(default=0.0)
    message: Mapped[str] = mapped_column(Text, default="")
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    error: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(String(64))
    # Claims since the progress last increased: a job that kills its worker must not be claimed forever.
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ReservationRow(Base):
    """A job's memory reservation: see models/jobs/jobs.py."""

    __tablename__ = "reservations"

    holder: Mapped[str] = mapped_column(String(255), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    until: Mapped[datetime] = mapped_column(UtcDateTime)


class FileRow(Base):
    """An uploaded file. Its content is in the files folder under its id; the row is written last.

    `key_id`: the key that uploaded it, or whose batch it is the result of; empty if there was none.
    """

    __tablename__ = "files"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    key_id: Mapped[str] = mapped_column(String(26), default="", server_default="", index=True)


class UploadRow(Base):
    """An upload in parts: pending until it is completed, cancelled or expired."""

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    mime_type: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16), default="pending")
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
    file_expires_after_s: Mapped[int | None] = mapped_column()
    # The completed file. No foreign key: the upload stays completed if the file is deleted.
    file_id: Mapped[str | None] = mapped_column(String(64))
    part_ids: Mapped[list[str] | None] = mapped_column(JSON)


class UploadPartRow(Base):
    """One part of an upload. Its content is in the upload's folder under its id; the row is written last."""

    __tablename__ = "upload_parts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    size: Mapped[int] = mapped_column(BigInteger)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)


class AuditRow(Base):
    """One change of a key, model, alias or campaign: see models/audit.py.

    `actor` is a key's name, or "command line", "page" or "worker". There are no foreign keys, so that entries survive
    deletions.
    """

    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    actor: Mapped[str] = mapped_column(String(255))
    key_id: Mapped[str | None] = mapped_column(String(26))
    address: Mapped[str] = mapped_column(String(255), default="")
    action: Mapped[str] = mapped_column(String(32))
    target: Mapped[str] = mapped_column(String(255), index=True)
    detail: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class StoredCompletionRow(Base):
    """A stored chat completion or response: see models/completions. `previous_id`: the response that it continues."""

    __tablename__ = "stored_completions"

    id: Mapped[str] = mapped_column(String(255), primary_key=True)
    place: Mapped[str] = mapped_column(String(26), unique=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    model: Mapped[str] = mapped_column(String(255), index=True)
    key_id: Mapped[str] = mapped_column(String(26))
    request_id: Mapped[str] = mapped_column(String(64))
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)
    # The API's metadata; SQLAlchemy reserves that name.
    labels: Mapped[dict[str, str]] = mapped_column(JSON)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    kind: Mapped[str] = mapped_column(String(16), server_default="completion")
    previous_id: Mapped[str | None] = mapped_column(String(255))


class FeedbackRow(Base):
    """Feedback on an answer, stored or not: see models/completions/feedback.py. Empty `key_id`: no key."""

    __tablename__ = "feedback"
    __table_args__ = (Index("ix_feedback_key_id_idempotency_key", "key_id", "idempotency_key", unique=True),)

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    key_id: Mapped[str] = mapped_column(String(26))
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    answer_id: Mapped[str] = mapped_column(String(255), index=True)
    name: Mapped[str] = mapped_column(String(64))
    value: Mapped[Any] = mapped_column(JSON)
    correction: Mapped[str | None] = mapped_column(Text)
    comment: Mapped[str | None] = mapped_column(Text)
    source_kind: Mapped[str] = mapped_column(String(16))
    source_id: Mapped[str] = mapped_column(String(255))
