"""Votes in a campaign: criteria, comments, skips, undo, and what is revealed when."""

import dataclasses
from pathlib import Path

import pytest
from sqlalchemy import func, select

from evals.campaign_tables import CampaignPairRow, CriterionVoteRow, InviteRow
from evals.campaigns.ballots import (
    Ballot,
    RaterProgress,
    cast_vote,
    comment_battle,
    rater_progress,
    revealed_battles,
    skip_battle,
    undo_vote,
    votes_by,
)
from evals.campaigns.battles import open_battles
from evals.campaigns.invites import NewInvite, create_invite, revoke_invite
from evals.campaigns.lifecycle import close_campaign
from evals.campaigns.raters import forget_person, join_by_invite
from evals.tables import BattleRow, VoteRow
from models.database import Database, utcnow
from models.errors import Conflict, Forbidden, Invalid, NotFound
from tests.evals.campaigns.campaigns import MODELS, battle, opened


def test_a_vote_has_criteria_and_a_comment(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, criteria=["tone", "accuracy"])
    shown = battle(any_database)
    ballot = Ballot({"tone": "left", "accuracy": "tie"}, " Both are rude. ")
    for criteria, comment in (({"length": "left"}, None), ({"tone": "both_bad"}, None), ({}, "x" * 2001)):
        with pytest.raises(Invalid):
            cast_vote(any_database, shown.id, "ann", "right", Ballot(criteria, comment))  # type: ignore[arg-type] -- forged
    cast_vote(any_database, shown.id, "ann", "right", ballot)
    cast_vote(any_database, shown.id, "ann", "left", Ballot({"tone": "right"}))
    with any_database.read() as session:
        assert {row.criterion: row.choice for row in session.scalars(select(CriterionVoteRow))} == ballot.criteria
        assert session.get_one(BattleRow, shown.id).comment == "Both are rude."
    comment_battle(any_database, shown.id, "ann", "")
    with any_database.read() as session:
        assert session.get_one(BattleRow, shown.id).comment is None
    with pytest.raises(NotFound):
        comment_battle(any_database, shown.id, "bob", "mine now")


@pytest.mark.parametrize("policy", ["after_vote", "at_end", "never"])
def test_names_are_revealed_when_the_campaign_says(any_database: Database, tmp_path: Path, policy: str) -> None:
    opened(any_database, tmp_path, reveal=policy)
    shown = battle(any_database)
    reveal = cast_vote(any_database, shown.id, "ann", "left")
    early = {reveal.left_model, reveal.right_model}
    assert (early <= set(MODELS)) == (policy == "after_vote")
    assert early <= set(MODELS) or early == {None}
    assert revealed_battles(any_database, "ann", "acceptance") == []
    close_campaign(any_database, "acceptance")
    late = revealed_battles(any_database, "ann", "acceptance")
    assert len(late) == (policy == "at_end")
    if late:
        assert {late[0].left_model, late[0].right_model} < set(MODELS)
        assert (late[0].battle.left, late[0].choice) == (shown.left, "left")
    again = cast_vote(any_database, shown.id, "ann", "right")
    assert again.choice == "left"
    assert (again.left_model is None) == (policy == "never")


@pytest.mark.long
def test_the_last_vote_can_be_taken_back_until_names_are_shown(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, criteria=["tone"])
    with pytest.raises(NotFound):
        undo_vote(any_database, "ann", "acceptance")
    first, second = battle(any_database), battle(any_database)
    cast_vote(any_database, first.id, "ann", "left", Ballot({"tone": "tie"}))
    cast_vote(any_database, second.id, "ann", "right", Ballot({"tone": "left"}))
    assert undo_vote(any_database, "ann", "acceptance") == second
    assert open_battles(any_database, "ann", "acceptance") == [second]
    assert votes_by(any_database, "ann", "acceptance") == 1
    assert cast_vote(any_database, second.id, "ann", "both_bad").choice == "both_bad"
    with any_database.read() as session:
        assert session.get_one(BattleRow, second.id).undone == 1
        assert session.scalar(select(func.count()).select_from(CriterionVoteRow)) == 1
        assert sum(cell.voted for cell in session.scalars(select(CampaignPairRow))) == 2
        assert sum(cell.points for cell in session.scalars(select(CampaignPairRow))) in (0.5, 1.5)


def test_a_vote_whose_names_were_shown_never_changes(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, reveal="after_vote")
    shown = battle(any_database)
    cast_vote(any_database, shown.id, "ann", "left")
    with pytest.raises(Conflict) as error:
        undo_vote(any_database, "ann", "acceptance")
    assert error.value.code == "revealed"
    assert votes_by(any_database, "ann", "acceptance") == 1


def test_a_skip_has_a_reason_and_no_vote(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path, votes_per_person=3)
    shown = battle(any_database)
    with pytest.raises(Invalid):
        skip_battle(any_database, shown.id, "ann", "bored")
    with pytest.raises(NotFound):
        skip_battle(any_database, shown.id, "bob", "other")
    skip_battle(any_database, shown.id, "ann", "not_my_topic")
    skip_battle(any_database, shown.id, "ann", "other")
    with pytest.raises(Conflict) as error:
        cast_vote(any_database, shown.id, "ann", "left")
    assert error.value.code == "skipped"
    assert rater_progress(any_database, "ann", "acceptance") == RaterProgress(0, 3, 1)
    assert open_battles(any_database, "ann", "acceptance") == []
    with any_database.read() as session:
        assert session.get_one(BattleRow, shown.id).skip_reason == "not_my_topic"
    voted = battle(any_database)
    cast_vote(any_database, voted.id, "ann", "tie")
    with pytest.raises(Conflict):
        skip_battle(any_database, voted.id, "ann", "other")


def test_a_vote_after_the_end_does_not_count(any_database: Database, tmp_path: Path) -> None:
    opened(any_database, tmp_path)
    shown = battle(any_database)
    close_campaign(any_database, "acceptance")
    with pytest.raises(Conflict) as error:
        cast_vote(any_database, shown.id, "ann", "left")
    assert error.value.code == "closed"
    with any_database.read() as session:
        assert session.scalar(select(func.count()).select_from(VoteRow)) == 0


@pytest.mark.long
def test_a_rater_continues_where_they_stopped(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path)
    shown = battle(database)
    assert open_battles(database, "ann", "acceptance") == [shown]
    assert open_battles(database, "bob", "acceptance") == []
    assert {field.name for field in dataclasses.fields(shown)} == {"id", "messages", "left", "right"}
    assert rater_progress(database, "ann", "acceptance").wanted == 18


@pytest.mark.parametrize("end", ["revoked", "expired", "forgotten"])
def test_who_is_not_invited_any_more_does_not_vote_on_an_open_battle(
    any_database: Database, tmp_path: Path, end: str
) -> None:
    opened(any_database, tmp_path, access="invited")
    invite = create_invite(any_database, NewInvite("acceptance", "Ann"))
    voter = join_by_invite(any_database, invite).voter
    voted, shown = battle(any_database, voter), battle(any_database, voter)
    cast_vote(any_database, voted.id, voter, "left")
    if end == "revoked":
        revoke_invite(any_database, invite.id)
    elif end == "forgotten":
        forget_person(any_database, "Ann")
    else:
        with any_database.write() as session:
            session.get_one(InviteRow, invite.id).expires = utcnow()
    for refused in (
        lambda: cast_vote(any_database, shown.id, voter, "left"),
        lambda: undo_vote(any_database, voter, "acceptance"),
        lambda: skip_battle(any_database, shown.id, voter, "other"),
    ):
        with pytest.raises(Forbidden):
            refused()
    assert rater_progress(any_database, voter, "acceptance").votes == 1


@pytest.mark.long
def test_a_closed_campaign_takes_no_skips(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path)
    shown = battle(database)
    close_campaign(database, "acceptance")
    with pytest.raises(Conflict):
        skip_battle(database, shown.id, "ann", "other")
