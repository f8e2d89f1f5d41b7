"""Invites: links to a campaign for a person or a group, signed with the page's secret.

A token is an invite's id and a signature, so it can be neither guessed nor changed. The database says whether it is
still valid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast, get_args

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import func, select

from evals.campaign_tables import InviteRow
from evals.campaigns.lifecycle import load_campaign
from models.database import Database, new_ulid, utcnow
from models.errors import Forbidden, Invalid, NotFound

Role = Literal["rater", "manager", "viewer"]
_NAME_LIMIT = 255  # characters, as the table has them


@dataclass(frozen=True)
class NewInvite:
    """The request for an invite. `name` is the person's or the group's; a group's members each give a name."""

    campaign: str
    name: str
    role: Role = "rater"
    is_group: bool = False
    expires: datetime | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.name.strip()) <= _NAME_LIMIT:
            raise Invalid(f"An invite needs a name of 1 to {_NAME_LIMIT} characters.", param="name")
        if self.role not in get_args(Role):
            raise Invalid(f"The role must be one of {', '.join(get_args(Role))}.", param="role")
        if self.is_group and self.role != "rater":
            raise Invalid("Only raters can share a group's link: invite each manager and viewer by name.", param="role")
        if self.expires is not None and (self.expires.tzinfo is None or self.expires <= utcnow()):
            raise Invalid("The expiry must be a time in the future, with a time zone.", param="expires")


@dataclass(frozen=True)
class Invite:
    """A stored invite."""

    id: str
    campaign: str
    role: Role
    name: str
    is_group: bool
    expires: datetime | None
    revoked: datetime | None
    created: datetime

    @property
    def valid(self) -> bool:
        """Whether the link works now."""
        return self.revoked is None and (self.expires is None or self.expires > utcnow())

    def to_json(self) -> dict[str, Any]:
        """The invite as plain JSON values."""
        values = {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in vars(self).items()
        }
        return values | {"valid": self.valid}


def create_invite(database: Database, new: NewInvite) -> Invite:
    """Stores an invite; `sign_invite` makes its link's token.

    Raises:
        NotFound: there is no such campaign.
    """
    load_campaign(database, new.campaign)
    row = InviteRow(
        id=new_ulid(),
        campaign=new.campaign,
        role=new.role,
        name=new.name.strip(),
        is_group=new.is_group,
        expires=new.expires,
    )
    with database.write() as session:
        session.add(row)
        session.flush()
        return as_invite(row)


def revoke_invite(database: Database, invite_id: str) -> Invite:
    """Makes a link invalid; its votes stay.

    Raises:
        NotFound: there is no such invite.
    """
    with database.write() as session:
        row = session.get(InviteRow, invite_id)
        if row is None:
            raise NotFound(f"There is no invite {invite_id!r}.", param="invite")
        row.revoked = row.revoked or utcnow()
        return as_invite(row)


def list_invites(database: Database, campaign: str) -> list[Invite]:
    """The invites of a campaign, the oldest first."""
    query = select(InviteRow).where(InviteRow.campaign == campaign).order_by(InviteRow.created, InviteRow.id)
    with database.read() as session:
        return [as_invite(row) for row in session.scalars(query)]


def personal_invites(database: Database, name: str, roles: Sequence[Role]) -> list[Invite]:
    """The valid invites of all campaigns for a person of this name, in these roles; the case of A to Z is ignored."""
    # Of other letters, two that look different can have the same lower case.
    same = func.lower(InviteRow.name) == name.lower() if name.isascii() else InviteRow.name == name
    query = select(InviteRow).where(same, InviteRow.role.in_(roles), InviteRow.is_group.is_(False))
    with database.read() as session:
        return [invite for invite in map(as_invite, session.scalars(query)) if invite.valid]


def sign_invite(secret: str, invite_id: str) -> str:
    """The token of an invite's link, safe in an address. `secret`: the page's."""
    return str(_serializer(secret).dumps(invite_id))


def invite_of(database: Database, secret: str, token: str) -> Invite:
    """The invite of a link.

    Raises:
        NotFound: the token is not signed by this page, or the invite was removed; the error is the same.
        Forbidden: it has expired (code "expired") or was revoked (code "revoked").
    """
    unknown = NotFound("This link is not valid. Ask the person who sent it for a new one.", code="unknown")
    try:
        invite_id = _serializer(secret).loads(token)
    except BadData:
        raise unknown from None
    with database.read() as session:
        row = session.get(InviteRow, invite_id) if isinstance(invite_id, str) else None
        if row is None:
            raise unknown
        invite = as_invite(row)
    if invite.revoked is not None:
        raise Forbidden("This link is no longer valid. Ask the person who sent it for a new one.", code="revoked")
    if not invite.valid:
        raise Forbidden("This link has expired. Ask the person who sent it for a new one.", code="expired")
    return invite


def as_invite(row: InviteRow) -> Invite:
    """The invite in a row."""
    return Invite(
        id=row.id,
        campaign=row.campaign,
        role=cast(Role, row.role),
        name=row.name,
        is_group=row.is_group,
        expires=row.expires,
        revoked=row.revoked,
        created=row.created,
    )


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="parley invite")
