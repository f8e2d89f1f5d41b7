"""This room's tables: the supervisor's status of each model, the gateway's demand for models that are not running, the
gateways of a database and the limits that they share, and batches.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow


class EngineRow(Base):
    """The status of a model on an engine. An adapter has its own row with its base's address and pid. `model_id` ends
    with `#N` for the further replicas of a model, as in `serve.fleet.replica_names`.
    """

    __tablename__ = "engines"

    model_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    address: Mapped[str | None] = mapped_column(String(255))
    pid: Mapped[int | None] = mapped_column()
    # The engine's planned memory; empty while it does not run, and for adapters.
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # When the current state began.
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    message: Mapped[str] = mapped_column(Text, default="")
    updated: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, onupdate=utcnow)


class DemandRow(Base):
    """The last demand for a model's engine: to run, because of a request while it was not running, or to sleep. For an
    adapter also `spread`: to be loaded on another replica, and `use`: it is on several replicas and still requested.
    """

    __tablename__ = "demands"

    model_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    requested: Mapped[datetime] = mapped_column("asked", UtcDateTime, default=utcnow)
    wanted: Mapped[str] = mapped_column(String(16), default="run", server_default="run")  # run, sleep, spread, use


class GatewayRow(Base):
    """A running gateway process, if it may share limits with others: see `serve.accounting.leases`.

    `place`: the host's name, port and worker number, which a restarted gateway shares with its predecessor. `seen`: its
    last heartbeat in seconds since the epoch, by the database's clock.
    """

    __tablename__ = "gateways"

    id: Mapped[str] = mapped_column(String(26), primary_key=True)
    place: Mapped[str] = mapped_column(String(255))
    seen: Mapped[float] = mapped_column()


class RateBucketRow(Base):
    """A key's limits as several gateways share them: see `serve.accounting.leases`.

    `requests` and `tokens` are missing from its buckets as of `at` (seconds since the epoch). `held`: gateway id →
    [tokens, US dollars] of today's budget that the gateway's running requests and its lease may still use.
    """

    __tablename__ = "rate_buckets"

    key_id: Mapped[str] = mapped_column(String(26), primary_key=True)
    at: Mapped[float] = mapped_column(default=0.0)
    requests: Mapped[float] = mapped_column(default=0.0)
    tokens: Mapped[float] = mapped_column(default=0.0)
    held: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)


class BatchRow(Base):
    """A batch of `/v1/batches`: see `serve.batches`. Empty `key_id`: created where no key was needed.

    `request` is the client's request, `outcome` what the worker adds to the API's object: model, errors, files, usage.
    `counts` has total, completed and failed; `times`: the name of a time in the API (`in_progress_at`) → Unix seconds.
    `digest` is the hash of the request and its key, to recognise a repeated request.
    """

    __tablename__ = "batches"
    __table_args__ = (Index("ix_batches_digest_created", "digest", "created"),)

    number: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(String(64), unique=True)
    key_id: Mapped[str] = mapped_column(String(26), index=True)
    job: Mapped[str] = mapped_column(String(26))
    status: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    outcome: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    counts: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    times: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    digest: Mapped[str] = mapped_column(String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
    expires: Mapped[datetime] = mapped_column(UtcDateTime)
