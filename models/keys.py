"""API keys: created and shown once, stored as digests; their roles, scopes, limits and expiry."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, cast

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from models.audit import record_change
from models.database import Database, new_ulid, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.registry.registry import bump_revision
from models.tables import AliasRow, KeyRow, ModelRow

Role = Literal["owner", "client"]
_NAME = re.compile(r"[\w .@-]{1,64}")
_SPAN = re.compile(r"(\d{1,5})([dh])")
_MAX_LIMIT = 10**15


def format_usd(usd: float) -> str:
    """An amount in US dollars with at least two decimals, and more if it has them: $5.00, $0.0001."""
    text = f"{usd:,.10f}".rstrip("0")
    return "$" + text + "0" * max(0, 2 - len(text.partition(".")[2]))


@dataclass(frozen=True)
class KeyLimits:
    """A key's limits; None means unlimited. Days are in UTC.

    `daily_usd` covers hosted models; local models cost nothing.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    daily_tokens: int | None = None
    daily_usd: float | None = None

    def __bool__(self) -> bool:
        return self != NO_LIMITS

    def describe(self) -> tuple[str, ...]:
        """The limits that are set, as text."""
        texts = (
            f"{self.requests_per_minute:,} requests/min" if self.requests_per_minute else "",
            f"{self.tokens_per_minute:,} tokens/min" if self.tokens_per_minute else "",
            f"{self.daily_tokens:,} tokens/day" if self.daily_tokens else "",
            f"{format_usd(self.daily_usd)}/day" if self.daily_usd else "",
        )
        return tuple(text for text in texts if text)

    def validate(self) -> None:
        """Raises Invalid for a limit that is not positive, or absurdly high."""
        for name, value in vars(self).items():
            if value is not None and not 0 < value <= _MAX_LIMIT:
                raise Invalid(f"{name} must be above 0, not {value}; leave it out for no limit.", param=name)


NO_LIMITS = KeyLimits()


@dataclass(frozen=True)
class KeyInfo:
    """A key's facts without the secret. An `owner` may open the owners' page; a `client` may only call models.

    `models` is its scope, None for all models. An id in it allows that model under any of its names; an alias allows
    only that name, wherever it points at the time of a request. `batch`: the request is a row of a batch, which the
    worker sends on the key's behalf.
    """

    id: str
    name: str
    role: Role
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    models: tuple[str, ...] | None = None
    limits: KeyLimits = NO_LIMITS
    batch: bool = False

    def to_json(self, now: datetime) -> dict[str, Any]:
        """The key as plain JSON values."""
        facts = {"id": self.id, "name": self.name, "role": self.role, "state": self.state(now)}
        times = {
            name: value.isoformat() if (value := getattr(self, name)) else None
            for name in ("created", "expires", "revoked")
        }
        scope = {"models": None if self.models is None else list(self.models), "limits": vars(self.limits).copy()}
        return facts | times | scope

    def state(self, now: datetime) -> str:
        """The state: `in force`, `revoked` or `expired`."""
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
    """Creates a key and returns its secret: `pk-` and 43 characters (256 random bits). It cannot be shown again.

    Raises:
        Invalid: an unknown role, a bad name, a limit that is not positive, a scope with an unknown model, or a scope
            for an owner, who may use every model.
        Conflict: an active key has that name.
    """
    if role not in ("owner", "client"):
        raise Invalid(f"A key's role is owner or client, not {role!r}.", param="role")
    if not _NAME.fullmatch(name):
        raise Invalid("A key's name has 1 to 64 letters, digits, spaces, dots or dashes.", param="name")
    limits.validate()
    secret = f"pk-{secrets.token_urlsafe(32)}"
    with database.write() as session:
        bump_revision(session)
        if session.scalar(select(KeyRow.id).where(KeyRow.name == name, *_in_force()).limit(1)):
            raise Conflict(f"There is already an active key {name!r}. Choose another name, or revoke that key first.")
        row = KeyRow(id=new_ulid(), name=name, role=role, digest=key_digest(secret), expires=expires)
        _set(session, row, models, limits)
        session.add(row)
        record_change(session, "key.create", name, id=row.id, role=role, **_settings(row))
    return secret


def change_key(
    database: Database,
    key_id: str,
    *,
    models: Sequence[str] | None,
    limits: KeyLimits,
    expires: datetime | None,
) -> KeyInfo:
    """Replaces an active key's scope, limits and expiry; returns the changed key.

    Raises:
        NotFound: there is no such key. Conflict: it is revoked. Invalid: as `create_key`.
    """
    limits.validate()
    with database.write() as session:
        bump_revision(session)
        row = _row(session, key_id)
        if row.revoked is not None:
            raise Conflict(f"The key {row.name!r} is revoked and cannot be changed. Create another key.")
        row.expires = expires
        _set(session, row, models, limits)
        record_change(session, "key.change", row.name, id=row.id, **_settings(row))
        return _info(row)


def list_keys(database: Database) -> list[KeyInfo]:
    """All keys, oldest first, including revoked ones."""
    with database.read() as session:
        return [_info(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created, KeyRow.id))]


def find_key(database: Database, name_or_id: str) -> KeyInfo:
    """The key with that id; otherwise the active key with that name; otherwise the latest with it.

    Raises:
        NotFound: there is none.
    """
    now = utcnow()
    matches = [key for key in list_keys(database) if name_or_id in (key.id, key.name)]
    if not matches:
        raise NotFound(f"There is no key {name_or_id!r}. `parley keys list` shows all keys.")
    return max(matches, key=lambda key: (key.id == name_or_id, key.state(now) == "in force", key.created))


def revoke_key(database: Database, key_id: str) -> None:
    """Revokes a key. Revoking it again changes nothing."""
    with database.write() as session:
        bump_revision(session)
        row = _row(session, key_id)
        if row.revoked is None:
            row.revoked = utcnow()
            record_change(session, "key.revoke", row.name, id=row.id)


def check_key(database: Database, secret: str) -> KeyInfo | None:
    """The key with this secret; None if it is unknown, revoked or expired."""
    with database.read() as session:
        row = session.scalar(select(KeyRow).where(KeyRow.digest == key_digest(secret), *_in_force()))
        return _info(row) if row else None


def active_keys(database: Database) -> dict[str, KeyInfo]:
    """Digest → key for all active keys, for the gateway's snapshot."""
    with database.read() as session:
        return {row.digest: _info(row) for row in session.scalars(select(KeyRow).where(*_in_force()))}


def keys_configured(database: Database) -> bool:
    """Whether a key was ever created. From then on the gateway and the owners' page require one.

    Revoked and expired keys count, so revoking the last key does not open access.
    """
    with database.read() as session:
        return session.scalar(select(KeyRow.id).limit(1)) is not None


def key_digest(secret: str) -> str:
    """SHA-256 in hex. A key has 256 random bits, so a slow hash would add no security."""
    return hashlib.sha256(secret.encode()).hexdigest()


def parse_expiry(text: str, now: datetime) -> datetime:
    """When a key expires: `30d` or `12h` from now, or at the end of a UTC day such as `2027-01-31`.

    Raises:
        Invalid: it is neither, or in the past.
    """
    try:
        if match := _SPAN.fullmatch(text):
            end = now + timedelta(**{{"d": "days", "h": "hours"}[match[2]]: int(match[1])})
        else:
            end = datetime.combine(date.fromisoformat(text), time.max, UTC)
    except (ValueError, OverflowError):
        raise Invalid(
            f"The expiry is {text!r}: use days or hours such as 30d or 12h, or a day such as 2027-01-31.",
            param="expires",
        ) from None
    if end <= now:
        raise Invalid(f"{text} is in the past: a key must expire in the future.", param="expires")
    return end


def _set(session: Session, row: KeyRow, models: Sequence[str] | None, limits: KeyLimits) -> None:
    if models is not None:
        _check_scope(session, row.role, models, row.models or ())
    row.models = None if models is None else list(dict.fromkeys(models))
    for name, value in vars(limits).items():
        setattr(row, name, value)


def _settings(row: KeyRow) -> dict[str, Any]:
    """A key's scope, limits and expiry for the audit log."""
    limits = {name: getattr(row, name) for name in vars(NO_LIMITS)}
    return limits | {"models": row.models, "expires": row.expires.isoformat() if row.expires else None}


def _check_scope(session: Session, role: str, models: Sequence[str], before: Sequence[str]) -> None:
    if role == "owner":
        raise Invalid(
            "An owner's key may use every model: leave out the models, or create a client's key.", param="models"
        )
    if not models:
        raise Invalid("A scope needs at least one model; leave it out for all models.", param="models")
    # Models already in the scope may have been retired since; that must not block a change of limits.
    for name in (name for name in models if name not in before):
        row = session.get(ModelRow, name)
        if session.get(AliasRow, name) is None and (row is None or row.state == "retired"):
            raise Invalid(f"There is no model {name!r}. `parley models list` shows all models.", param="models")


def _row(session: Session, key_id: str) -> KeyRow:
    row = session.get(KeyRow, key_id)
    if row is None:
        raise NotFound(f"There is no key {key_id!r}. `parley keys list` shows all keys.")
    return row


def _in_force() -> tuple[Any, ...]:
    return KeyRow.revoked.is_(None), or_(KeyRow.expires.is_(None), KeyRow.expires > utcnow())


def _info(row: KeyRow) -> KeyInfo:
    limits = KeyLimits(row.requests_per_minute, row.tokens_per_minute, row.daily_tokens, row.daily_usd)
    # The gateway checks for this very object on every request.
    limits = limits if limits else NO_LIMITS
    scope = None if row.models is None else tuple(row.models)
    return KeyInfo(row.id, row.name, cast(Role, row.role), row.created, row.expires, row.revoked, scope, limits)
