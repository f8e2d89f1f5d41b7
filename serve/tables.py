"""This room's tables: the supervisor's status of each model, and the gateway's demand for models that are not
running.
"""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text
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
