"""Raters: people who take part in a campaign, and how everything stored of a person is removed.

A voter id reveals nothing about the person. One person's invite has the same voter on every device. A member of a
group gets a link of their own, which they use to continue on another device.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from itsdangerous import BadData, URLSafeSerializer
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from evals.campaign_tables import ExcludedVoterRow, InviteRow, RaterRow
from evals.campaigns.campaign import Campaign
from evals.campaigns.invites import Invite, as_invite
from evals.campaigns.lifecycle import load_campaign
from evals.tables import BattleRow, VoteRow, insert_once
from evals.votes.imports.keys import PREFIX
from evals.votes.imports.rows import UNKNOWN_VOTER
from models.database import Database, new_ulid
from models.errors import Conflict, Forbidden, Invalid, NotFound

Link = Literal["invite", "open"]
_NAME_LIMIT = 255
_AT_ONCE = 1000  # votes in one statement


@dataclass(frozen=True)
class Rater:
    """A person in a campaign. `link`: by an invite, or by the open link, whose votes can be left out of ratings."""

    campaign: str
    voter: str
    name: str | None
    invite_id: str | None
    link: Link
    created: datetime


@dataclass(frozen=True)
class RaterVotes:
    """A rater and how many votes they cast."""

    rater: Rater
    votes: int


@dataclass(frozen=True)
class Forgotten:
    """What was removed of a person; the votes stay.

    `raters` were made anonymous, `invites` and `comments` deleted, and `imported` votes got a random voter id instead
    of the person's name.
    """

    raters: int
    invites: int
    comments: int
    imported: int


def join_by_invite(database: Database, invite: Invite, name: str | None = None) -> Rater:
    """The rater of an invite, stored at the first call.

    Args:
        name: the name that a member of a group typed; a person's invite has the name already.

    Raises:
        Invalid: a group's link needs a name.
        Conflict: somebody in this group has that name already (code "name_taken").
        Forbidden: the invite is not for raters, or not valid any more.
    """
    if invite.role != "rater" or not invite.valid:
        raise Forbidden("This link does not let you vote. Ask the person who sent it.", code="not_a_rater")
    if not invite.is_group:
        # From the id, so that two devices that open the link at once are one voter.
        voter = hashlib.blake2b(invite.id.encode(), digest_size=15, person=b"parley voter").hexdigest()
        row = RaterRow(campaign=invite.campaign, voter=voter, name=invite.name, invite_id=invite.id, link="invite")
        with database.write() as session:
            insert_once(session, row)
            return _rater(session.get_one(RaterRow, (invite.campaign, voter)))
    name = (name or "").strip()
    if not 0 < len(name) <= _NAME_LIMIT:
        raise Invalid("Type your name, so that you can continue later.", param="name")
    row = RaterRow(
        campaign=invite.campaign, voter=secrets.token_urlsafe(18), name=name, invite_id=invite.id, link="invite"
    )
    taken = select(RaterRow.voter).where(RaterRow.invite_id == invite.id, func.lower(RaterRow.name) == func.lower(name))
    with database.write() as session:
        # Locked, so that the same name typed twice at once is one rater.
        session.get(InviteRow, invite.id, with_for_update={"key_share": True})
        if session.scalar(taken.limit(1)) is not None:
            raise Conflict(
                f"The name {name!r} is taken. If it is yours, use your own link; otherwise add a letter to it.",
                code="name_taken",
                param="name",
            )
        session.add(row)
        session.flush()
        return _rater(row)


def join_openly(database: Database, campaign: str, voter: str, address: str | None = None) -> Rater:
    """The rater behind the open link, stored at the first call.

    Args:
        voter: from the signed cookie.
        address: `hashed_address` of the network address, for the rate limit; never the address itself.

    Raises:
        NotFound: there is no such campaign.
        Forbidden: it needs an invite (code "invited_only").
    """
    if load_campaign(database, campaign).access != "open":
        raise Forbidden("This comparison needs an invite. Ask its owner for a link.", code="invited_only")
    with database.write() as session:
        insert_once(session, RaterRow(campaign=campaign, voter=voter, link="open", address=address))
        return _rater(session.get_one(RaterRow, (campaign, voter)))


def load_rater(database: Database, campaign: str, voter: str) -> Rater | None:
    """The rater with this voter id in a campaign; None if they have not joined."""
    with database.read() as session:
        row = session.get(RaterRow, (campaign, voter))
        return None if row is None else _rater(row)


def list_raters(database: Database, campaign: str) -> list[RaterVotes]:
    """The raters of a campaign with their votes, the first to join first."""
    counted = (
        select(VoteRow.voter, func.count())
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .where(BattleRow.campaign == campaign)
        .group_by(VoteRow.voter)
    )
    joined = select(RaterRow).where(RaterRow.campaign == campaign).order_by(RaterRow.created, RaterRow.voter)
    with database.read() as session:
        votes: dict[str, int] = dict(session.execute(counted).all())
        return [RaterVotes(_rater(row), votes.get(row.voter, 0)) for row in session.scalars(joined)]


def count_from_address(database: Database, campaign: str, address: str, since: datetime) -> int:
    """How many raters joined by the open link from a (hashed) address since a time: for the rate limit."""
    query = select(func.count()).where(
        RaterRow.campaign == campaign, RaterRow.address == address, RaterRow.created >= since
    )
    with database.read() as session:
        return session.scalar(query) or 0


def sign_rater(secret: str, rater: Rater) -> str:
    """The token of a rater's own link, for continuing on another device. `secret`: the page's."""
    return str(_serializer(secret).dumps([rater.campaign, rater.voter]))


def rater_of(database: Database, secret: str, token: str) -> Rater:
    """The rater of their own link.

    Raises:
        NotFound: the token is not signed by this page, or the rater was forgotten; the error is the same.
    """
    try:
        campaign, voter = _serializer(secret).loads(token)
        rater = load_rater(database, str(campaign), str(voter))
    except (BadData, TypeError, ValueError):
        rater = None
    if rater is None or rater.invite_id is None:
        raise NotFound("This link is not valid. Ask the person who sent it for a new one.", code="unknown")
    return rater


def hashed_address(secret: str, address: str) -> str:
    """A keyed hash of a network address: the same address gives the same value, which does not reveal it."""
    return hmac.new(secret.encode(), f"address {address}".encode(), hashlib.sha256).hexdigest()


def check_may_vote(session: Session, campaign: Campaign, voter: str) -> None:
    """Checks that a voter takes part in a campaign; in one with an open link everybody does.

    Raises:
        Forbidden: they have no valid invite.
    """
    if campaign.access == "open":
        return
    row = session.get(RaterRow, (campaign.name, voter))
    invite = session.get(InviteRow, row.invite_id) if row is not None and row.invite_id is not None else None
    if invite is None or not as_invite(invite).valid:
        raise Forbidden("You need a valid invite for this comparison. Ask its owner for a link.", code="invited_only")


def forget_person(database: Database, person: str, campaign: str | None = None) -> Forgotten:
    """Removes a person's name, address, invite and comments, and keeps their votes under an anonymous voter id.

    Args:
        person: the name in the invite, the one typed in a group, the voter in an imported file, or a voter's id.
        campaign: only in this campaign; by default in all of them.

    Raises:
        NotFound: nobody has that name or id.
    """
    of_raters = select(RaterRow).where((func.lower(RaterRow.name) == func.lower(person)) | (RaterRow.voter == person))
    of_invites = select(InviteRow).where(InviteRow.is_group.is_(False))
    if campaign is not None:
        of_raters = of_raters.where(RaterRow.campaign == campaign)
        of_invites = of_invites.where(InviteRow.campaign == campaign)
    with database.write() as session:
        raters = list(session.scalars(of_raters))
        own = [rater.invite_id for rater in raters if rater.invite_id]
        by_name = (func.lower(InviteRow.name) == func.lower(person)) | InviteRow.id.in_(own)
        invites = list(session.scalars(of_invites.where(by_name)))
        imported = _imported_votes(session, person, campaign)
        if not (raters or invites or imported):
            raise NotFound(f"No rater, invite or imported voter has the name {person!r}.", param="person")
        gone = [invite.id for invite in invites]
        everyone = {*raters, *session.scalars(select(RaterRow).where(RaterRow.invite_id.in_(gone)))}
        comments = sum(_remove_comments(session, rater) for rater in everyone)
        for rater in everyone:
            rater.name = rater.address = rater.invite_id = None
        _rename_voter(session, imported)
        session.flush()
        for invite in invites:
            session.delete(invite)
        return Forgotten(len(everyone), len(invites), comments, len(imported))


def _remove_comments(session: Session, rater: RaterRow) -> int:
    """Removes what the person wrote: the comments, and the reason why their votes are excluded."""
    table = BattleRow
    session.execute(update(ExcludedVoterRow).where(ExcludedVoterRow.voter == rater.voter).values(reason=""))
    written = (table.voter == rater.voter, table.campaign == rater.campaign, table.comment.is_not(None))
    removed = session.execute(update(table).where(*written).values(comment=None))
    return removed.rowcount  # pyrefly: ignore[missing-attribute] -- an UPDATE's result has it


def _imported_votes(session: Session, person: str, campaign: str | None) -> dict[str, str]:
    """The battles from files that name the person as the voter: their ids, each with the name as it is written."""
    named = func.lower(BattleRow.voter) == func.lower(person)
    query = select(BattleRow.id, BattleRow.voter).where(named, BattleRow.id.startswith(PREFIX))
    if campaign is not None:
        query = query.where(BattleRow.campaign == campaign)
    return {} if person.lower() == UNKNOWN_VOTER else {row.id: row.voter for row in session.execute(query)}


def _rename_voter(session: Session, imported: Mapping[str, str]) -> None:
    """Gives imported votes a random voter id; they stay excluded if they are."""
    for name in set(imported.values()):
        voter = f"forgotten-{new_ulid()}"
        ids = [battle_id for battle_id, written in imported.items() if written == name]
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            session.execute(update(BattleRow).where(BattleRow.id.in_(some)).values(voter=voter, comment=None))
            session.execute(update(VoteRow).where(VoteRow.battle_id.in_(some)).values(voter=voter))
        if (excluded := session.get(ExcludedVoterRow, name)) is not None:
            session.add(ExcludedVoterRow(voter=voter, reason="", created=excluded.created))
            if session.scalar(select(VoteRow.battle_id).where(VoteRow.voter == name).limit(1)) is None:
                session.delete(excluded)


def _rater(row: RaterRow) -> Rater:
    return Rater(row.campaign, row.voter, row.name, row.invite_id, cast(Link, row.link), row.created)


def _serializer(secret: str) -> URLSafeSerializer:
    return URLSafeSerializer(secret, salt="parley rater")
