"""Invites and raters: admission, the same voter on every device, and removal of a person's data."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update

from evals.campaign_tables import ExcludedVoterRow, InviteRow, RaterRow
from evals.campaigns.ballots import Ballot, cast_vote, votes_by
from evals.campaigns.invites import NewInvite, create_invite, invite_of, list_invites, revoke_invite, sign_invite
from evals.campaigns.raters import (
    Forgotten,
    count_from_address,
    forget_person,
    hashed_address,
    join_by_invite,
    join_by_open_link,
    list_raters,
    load_rater,
    rater_of,
    sign_rater,
)
from evals.tables import BattleRow, VoteRow
from evals.votes.vote_import import import_votes
from evals.votes.voters import exclude_voter
from evals.votes.votes import read_votes
from models.database import Database, utcnow
from models.errors import Conflict, Forbidden, Invalid, NotFound
from tests.evals.campaigns.campaigns import battle, opened

SECRET = "the page's secret, long enough for a key"


def invite(database: Database, name: str = "Ann Smith", **fields):
    return create_invite(database, NewInvite("acceptance", name, **fields))


def test_a_link_is_signed_and_is_the_invite(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, access="invited")
    stored = invite(any_database)
    token = sign_invite(SECRET, stored.id)
    assert invite_of(any_database, SECRET, token) == stored
    assert "Ann" not in token
    assert list_invites(any_database, "acceptance") == [stored]
    for forged in (token.swapcase(), stored.id, "", sign_invite("another", stored.id)):
        with pytest.raises(NotFound):
            invite_of(any_database, SECRET, forged)
    assert revoke_invite(any_database, stored.id).valid is False
    with pytest.raises(Forbidden) as error:
        invite_of(any_database, SECRET, token)
    assert error.value.code == "revoked"
    with pytest.raises(NotFound):
        create_invite(any_database, NewInvite("nowhere", "Ann"))
    with pytest.raises(NotFound):
        revoke_invite(any_database, "nothing")


@pytest.mark.long
def test_an_expired_link_is_refused(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, access="invited")
    stored = invite(database, expires=utcnow() + timedelta(days=1))
    rater = join_by_invite(database, stored)
    battle(database, rater.voter)
    with database.write() as session:
        session.execute(update(InviteRow).values(expires=utcnow() - timedelta(seconds=1)))
    with pytest.raises(Forbidden) as error:
        invite_of(database, SECRET, sign_invite(SECRET, stored.id))
    assert error.value.code == "expired"
    with pytest.raises(Forbidden):
        battle(database, rater.voter)


@pytest.mark.parametrize(
    "fields",
    [
        {"name": " "},
        {"role": "owner"},
        {"role": "viewer", "is_group": True},
        {"expires": utcnow() - timedelta(days=1)},
    ],
)
def test_a_wrong_invite_is_one_line(fields: dict) -> None:
    with pytest.raises(Invalid):
        NewInvite(**{"campaign": "acceptance", "name": "Ann"} | fields)


def test_one_persons_link_is_one_voter_on_every_device(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, access="invited")
    stored = invite(any_database)
    with ThreadPoolExecutor(6) as pool:
        raters = list(pool.map(lambda _: join_by_invite(any_database, stored), range(6)))
    assert len({rater.voter for rater in raters}) == 1
    assert (raters[0].name, raters[0].link) == ("Ann Smith", "invite")
    assert stored.id not in raters[0].voter
    assert join_by_invite(any_database, invite(any_database)).voter != raters[0].voter
    viewer = invite(any_database, role="viewer")
    with pytest.raises(Forbidden):
        join_by_invite(any_database, viewer)


def test_group_members_get_their_own_links(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, access="invited")
    team = invite(any_database, "Support team", is_group=True)
    with pytest.raises(Invalid):
        join_by_invite(any_database, team, " ")
    ann, bob = join_by_invite(any_database, team, " Ann "), join_by_invite(any_database, team, "Bob")
    assert ann.voter != bob.voter
    with pytest.raises(Conflict) as error:
        join_by_invite(any_database, team, "ann")
    assert error.value.code == "name_taken"
    token = sign_rater(SECRET, ann)
    assert rater_of(any_database, SECRET, token) == ann
    for forged in (token + "x", sign_invite(SECRET, team.id), sign_rater("another", ann)):
        with pytest.raises(NotFound):
            rater_of(any_database, SECRET, forged)
    cast_vote(any_database, battle(any_database, ann.voter).id, ann.voter, "tie")
    assert [(each.rater.name, each.votes) for each in list_raters(any_database, "acceptance")] == [
        ("Ann", 1),
        ("Bob", 0),
    ]


def test_open_links_are_marked_and_counted_by_address(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, access="open")
    address = hashed_address(SECRET, "192.0.2.7")
    assert "192" not in address
    assert address != hashed_address("another", "192.0.2.7")
    for voter in ("a", "b", "b"):
        assert join_by_open_link(database, "acceptance", voter, address).link == "open"
    hour = timedelta(hours=1)
    assert count_from_address(database, "acceptance", address, utcnow() - hour) == 2
    assert count_from_address(database, "acceptance", address, utcnow() + hour) == 0
    assert load_rater(database, "acceptance", "c") is None


def test_an_open_link_does_not_admit_to_an_invited_campaign(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, access="invited")
    with pytest.raises(Forbidden):
        join_by_open_link(database, "acceptance", "a")


@pytest.mark.long
def test_a_forgotten_persons_vote_becomes_anonymous(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, access="invited")
    stored = invite(any_database)
    team = invite(any_database, "Team", is_group=True)
    rater, member = join_by_invite(any_database, stored), join_by_invite(any_database, team, "Cem")
    shown = battle(any_database, rater.voter)
    cast_vote(any_database, shown.id, rater.voter, "left", Ballot(comment="Ann likes this."))
    exclude_voter(any_database, rater.voter, "Ann clicked at random")
    file = tmp_path / "votes.csv"
    file.write_text("model_a,model_b,winner,prompt,voter\na,b,left,Why?,Ann Smith\na,b,left,Why?,Bert\n")
    import_votes(any_database, file)
    exclude_voter(any_database, "Ann Smith", "not of the team")
    forgotten = forget_person(any_database, "ann smith")
    assert forgotten == Forgotten(raters=1, invites=1, comments=1, imported=1)
    assert read_votes(any_database).voters == ("Bert",), "the votes stay excluded"
    assert forget_person(any_database, "Cem").invites == 0, "the group's link is not one person's"
    assert votes_by(any_database, rater.voter, "acceptance") == 1
    with any_database.read() as session:
        tables = (InviteRow, RaterRow, BattleRow, VoteRow, ExcludedVoterRow)
        everything = repr([vars(row) for table in tables for row in session.scalars(select(table))])
    assert "Ann" not in everything
    assert "Cem" not in everything
    assert stored.id not in everything
    assert [each.name for each in list_invites(any_database, "acceptance")] == ["Team"]
    for token in (sign_invite(SECRET, stored.id),):
        with pytest.raises(NotFound):
            invite_of(any_database, SECRET, token)
    with pytest.raises(NotFound):
        rater_of(any_database, SECRET, sign_rater(SECRET, member))
    with pytest.raises(NotFound):
        forget_person(any_database, "Ann Smith")
