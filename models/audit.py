"""The audit log: who changed which key, model, alias or campaign, when, and from where.

An entry is written in the same transaction as its change, so neither exists without the other. The actor is a
gateway request's key, the page, the worker or, by default, the command line.
"""

import os
import pwd
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.tables import AuditRow

_MAX_NAME = 255


@dataclass(frozen=True)
class Actor:
    """Who makes a change. `name`: a key's name, or "page", "worker" or "command line". `address`: IP or user@host."""

    name: str
    address: str = ""
    key_id: str | None = None


@dataclass(frozen=True)
class AuditEntry:
    """One change. `action`: such as `key.create`. `detail`: the values that were set."""

    id: str
    created: datetime
    actor: str
    key_id: str | None
    address: str
    action: str
    target: str
    detail: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON values."""
        return vars(self) | {"created": self.created.isoformat()}


def command_line() -> Actor:
    """The user of this machine who runs a command."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have no name
        user = str(os.getuid())
    return Actor("command line", f"{user}@{socket.gethostname()}")


_current: ContextVar[Callable[[], Actor]] = ContextVar("actor", default=command_line)


def set_actor(actor: Callable[[], Actor]) -> None:
    """Sets the actor of this process. `actor` is called for each change."""
    _current.set(actor)


@contextmanager
def acting_as(actor: Actor) -> Iterator[None]:
    """Attributes the changes inside the block to `actor`, including those in threads started through asyncio."""
    token = _current.set(lambda: actor)
    try:
        yield
    finally:
        _current.reset(token)


def record_change(session: Session, action: str, target: str, **detail: Any) -> None:
    """Adds an entry to the change's transaction. Details that are None are left out."""
    actor = _current.get()()
    session.add(
        AuditRow(
            id=new_ulid(),
            created=utcnow(),
            actor=actor.name[:_MAX_NAME],
            key_id=actor.key_id,
            address=actor.address[:_MAX_NAME],
            action=action,
            target=target,
            detail={name: value for name, value in detail.items() if value is not None},
        )
    )


def read_audit(
    database: Database, *, limit: int = 100, after: str | None = None, target: str | None = None
) -> list[AuditEntry]:
    """The newest entries, newest first.

    Args:
        after: the id of an entry; only older entries are returned.
        target: only entries about this key, model, alias or campaign.
    """
    query = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
    if after:
        query = query.where(AuditRow.id < after)
    if target:
        query = query.where(AuditRow.target == target)
    with database.read() as session:
        return [
            AuditEntry(
                row.id, row.created, row.actor, row.key_id, row.address, row.action, row.target, dict(row.detail)
            )
            for row in session.scalars(query)
        ]
