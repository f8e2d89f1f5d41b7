"""API keys: made once, shown once, stored as digests. It knows who a key is and what it may, not how that is held."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, cast

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.registry import bump_revision
from models.tables import AliasRow, KeyRow, ModelRow

Role = Literal["owner", "client"]
_NAME = re.compile(r"[\w .@-]{1,64}")
_SPAN = re.compile(r"(\d{1,5})([dh])")
_MOST = 10**15


@dataclass(frozen=True)
class KeyLimits:
    """How much a key may use; None: as much as it likes. Days are UTC's.

    `daily_usd` is of money that hosted models cost; a model that runs here costs none.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    daily_tokens: int | None = None
    daily_usd: float | None = None

    def __bool__(self) -> bool:
        return self != NO_LIMITS

    def describe(self) -> tuple[str, ...]:
        """Each limit that there is, for a person."""
        found = (
            f"{self.requests_per_minute:,} requests/min" if self.requests_per_minute else "",
            f"{self.tokens_per_minute:,} tokens/min" if self.tokens_per_minute else "",
            f"{self.daily_tokens:,} tokens/day" if self.daily_tokens else "",
            f"${self.daily_usd:,.2f}/day" if self.daily_usd else "",
        )
        return tuple(words for words in found if words)

    def check(self) -> None:
        """Raises Invalid for a limit that is not over zero, or beyond all reason."""
        for name, value in vars(self).items():
            if value is not None and not 0 < value <= _MOST:
                raise Invalid(f"{name} must be a number over 0, not {value}; leave it out for no limit.", param=name)


NO_LIMITS = KeyLimits()


@dataclass(frozen=True)
class KeyInfo:
    """A key without the key. An `owner` may open the owners' page; a `client` may only call models.

    `models` is its scope: the names that it may ask for, None for all. An id in it stands for that model under any
    of its names; an alias stands for that name alone, whatever it points at when a request comes.
    """

    id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    models: tuple[str, ...] | None = None
    limits: KeyLimits = NO_LIMITS

    def state(self, now: datetime) -> str:
        """`in force`, `revoked` or `expired`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "in force"


def create_key(
    database: Database,
    *,
    name: str,
    role: Role,
    expires: datetime | None = None,
    models: Sequence[str] | None = None,
    limits: KeyLimits = NO_LIMITS,
) -> str:
    """Makes a key and returns it: `pk-` and 43 characters, 256 random bits. It cannot be shown again.

    Raises:
        Invalid: an unknown role, a name that is empty, odd or over 64 characters, a limit that is none, a scope with
            an unknown model, or a scope for an owner, who may do everything.
        Conflict: a key of that name is in force.
    """
    if role not in ("owner", "client"):
        raise Invalid(f"A key's role is owner or client, not {role!r}.", param="role")
    if not _NAME.fullmatch(name):
        raise Invalid("A key's name has 1 to 64 letters, digits, spaces, dots or dashes.", param="name")
    limits.check()
    secret = f"pk-{secrets.token_urlsafe(32)}"
    with database.write() as session:
        bump_revision(session)
        if session.scalar(select(KeyRow.id).where(KeyRow.name == name, *_in_force()).limit(1)):
            raise Conflict(f"A key called {name!r} is in force. Choose another name, or revoke that one first.")
        row = KeyRow(id=new_ulid(), name=name, role=role, digest=key_digest(secret), expires=expires)
        _set(session, row, models, limits)
        session.add(row)
    return secret


def change_key(
    database: Database,
    key_id: str,
    *,
    models: Sequence[str] | None,
    limits: KeyLimits,
    expires: datetime | None,
) -> KeyInfo:
    """Gives a living key another scope, other limits and another end, all three of them; returns it as it is now.

    Raises:
        NotFound: there is no such key. Conflict: it is revoked. Invalid: as `create_key`.
    """
    limits.check()
    with database.write() as session:
        bump_revision(session)
        row = _row(session, key_id)
        if row.revoked is not None:
            raise Conflict(f"The key {row.name!r} is revoked, and stays so: make another one.")
        row.expires = expires
        _set(session, row, models, limits)
        return _info(row)


def list_keys(database: Database) -> list[KeyInfo]:
    """Every key, oldest first, the revoked ones included."""
    with database.read() as session:
        return [_info(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created, KeyRow.id))]


def find_key(database: Database, name_or_id: str) -> KeyInfo:
    """The key with that id; else the one with that name that is in force; else the last one that had it.

    Raises:
        NotFound: there is none.
    """
    now = utcnow()
    found = [key for key in list_keys(database) if name_or_id in (key.id, key.name)]
    if not found:
        raise NotFound(f"There is no key {name_or_id!r}: `parley keys list` shows them.")
    return max(found, key=lambda key: (key.id == name_or_id, key.state(now) == "in force", key.created))


def revoke_key(database: Database, key_id: str) -> None:
    """Makes a key useless from now on. A second time changes nothing."""
    with database.write() as session:
        bump_revision(session)
        row = _row(session, key_id)
        row.revoked = row.revoked or utcnow()


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


def parse_expiry(text: str, now: datetime) -> datetime:
    """When a key shall end: `30d` or `12h` from now, or the end of a day such as `2027-01-31`, UTC.

    Raises:
        Invalid: it is neither, or over already.
    """
    try:
        if found := _SPAN.fullmatch(text):
            end = now + timedelta(**{{"d": "days", "h": "hours"}[found[2]]: int(found[1])})
        else:
            end = datetime.combine(date.fromisoformat(text), time.max, UTC)
    except (ValueError, OverflowError):
        raise Invalid(
            f"A key ends after days or hours, such as 30d or 12h, or with a day, such as 2027-01-31; not {text!r}.",
            param="expires",
        ) from None
    if end <= now:
        raise Invalid(f"{text} is over: a key ends in the future.", param="expires")
    return end


def _set(session: Session, row: KeyRow, models: Sequence[str] | None, limits: KeyLimits) -> None:
    if models is not None:
        _check_scope(session, row.role, models, row.models or ())
    row.models = None if models is None else list(dict.fromkeys(models))
    for name, value in vars(limits).items():
        setattr(row, name, value)


def _check_scope(session: Session, role: str, models: Sequence[str], before: Sequence[str]) -> None:
    if role == "owner":
        raise Invalid("An owner's key opens everything: leave out the models, or make a client's key.", param="models")
    if not models:
        raise Invalid("A scope names at least one model; leave it out for all of them.", param="models")
    # What it may use already need not be there any more: a model that retired must not stand in a tighter limit's way.
    for name in (name for name in models if name not in before):
        row = session.get(ModelRow, name)
        if session.get(AliasRow, name) is None and (row is None or row.state == "retired"):
            raise Invalid(f"There is no model {name!r}: `parley models list` shows them.", param="models")


def _row(session: Session, key_id: str) -> KeyRow:
    row = session.get(KeyRow, key_id)
    if row is None:
        raise NotFound(f"There is no key {key_id!r}: `parley keys list` shows them.")
    return row


def _in_force() -> tuple[Any, ...]:
    return KeyRow.revoked.is_(None), or_(KeyRow.expires.is_(None), KeyRow.expires > utcnow())


def _info(row: KeyRow) -> KeyInfo:
    limits = KeyLimits(row.requests_per_minute, row.tokens_per_minute, row.daily_tokens, row.daily_usd)
    # Without limits it is that very object: the gateway asks so, for every request.
    limits = limits if limits else NO_LIMITS
    scope = None if row.models is None else tuple(row.models)
    return KeyInfo(row.id, row.name, cast(Role, row.role), row.created, row.expires, row.revoked, scope, limits)
