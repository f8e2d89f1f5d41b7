"""API keys: made once, shown once, stored as digests. It knows who a key is, not what a route allows."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from sqlalchemy import or_, select

from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.registry import bump_revision
from models.tables import KeyRow

Role = Literal["owner", "client"]
_NAME = re.compile(r"[\w .@-]{1,64}")


@dataclass(frozen=True)
class KeyInfo:
    """A key without the key. An `owner` may open the owners' page; a `client` may only call models."""

    id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None


def create_key(database: Database, *, name: str, role: Role, expires: datetime | None = None) -> str:
    """Makes a key and returns it: `pk-` and 43 characters, 256 random bits. It cannot be shown again.

    Raises:
        Invalid: an unknown role, or a name that is empty, odd or over 64 characters.
    """
    if role not in ("owner", "client"):
        raise Invalid(f"A key's role is owner or client, not {role!r}.", param="role")
    if not _NAME.fullmatch(name):
        raise Invalid("A key's name has 1 to 64 letters, digits, spaces, dots or dashes.", param="name")
    secret = f"pk-{secrets.token_urlsafe(32)}"
    with database.write() as session:
        session.add(KeyRow(id=new_ulid(), name=name, role=role, digest=key_digest(secret), expires=expires))
        bump_revision(session)
    return secret


def list_keys(database: Database) -> list[KeyInfo]:
    """Every key, oldest first, the revoked ones included."""
    with database.read() as session:
        return [_info(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created, KeyRow.id))]


def revoke_key(database: Database, key_id: str) -> None:
    """Makes a key useless from now on. A second time changes nothing."""
    with database.write() as session:
        row = session.get(KeyRow, key_id)
        if row is None:
            raise NotFound(f"There is no key {key_id!r}: `parley keys list` shows them.")
        row.revoked = row.revoked or utcnow()
        bump_revision(session)


def check_key(database: Database, secret: str) -> KeyInfo | None:
    """Who this key is; None for one that is unknown, revoked or expired."""
    with database.read() as session:
        row = session.scalar(select(KeyRow).where(KeyRow.digest == key_digest(secret), *_in_force()))
        return _info(row) if row else None


def active_keys(database: Database) -> dict[str, KeyInfo]:
    """Digest → key, for those in force now: what the gateway keeps in its snapshot."""
    with database.read() as session:
        return {row.digest: _info(row) for row in session.scalars(select(KeyRow).where(*_in_force()))}


def keys_configured(database: Database) -> bool:
    """Whether anybody has ever made a key: from then on the gateway and the owners' page ask for one.

    Revoked and expired keys count: revoking the last key closes the door, it does not take it off its hinges.
    """
    with database.read() as session:
        return session.scalar(select(KeyRow.id).limit(1)) is not None


def key_digest(secret: str) -> str:
    """SHA-256 in hex. A key is 256 random bits, so a slow hash would add nothing but time to each request."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _in_force() -> tuple:
    return KeyRow.revoked.is_(None), or_(KeyRow.expires.is_(None), KeyRow.expires > utcnow())


def _info(row: KeyRow) -> KeyInfo:
    return KeyInfo(row.id, row.name, cast(Role, row.role), row.created, row.expires, row.revoked)
