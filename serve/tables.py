"""This room's tables: what the supervisor says of each engine, and what the gateway asks of the supervisor."""

from datetime import datetime

from sqlalchemy import BigInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.database import Base, UtcDateTime, utcnow


class EngineRow(Base):
    """One model that an engine serves. An adapter has a row of its own, with its base's address and pid."""

    __tablename__ = "engines"

    model_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    address: Mapped[str | None] = mapped_column(String(255))
    pid: Mapped[int | None] = mapped_column()
    # What its engine takes by plan, in bytes; empty while it does not run, and for an adapter.
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    # When it came into the state that it is in.
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    message: Mapped[str] = mapped_column(Text, default="")
    updated: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow, onupdate=utcnow)


class DemandRow(Base):
    """A model that was asked for while it was not running, with the last time that it was."""

    __tablename__ = "demands"

    model_id: Mapped[str] = mapped_column(String(255), primary_key=True)
    asked: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow)
