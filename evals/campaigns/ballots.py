"""Votes on battles: cast, undone, skipped, and what they reveal.

A vote changes only until its names are shown: a vote changed after that is not blind. Whether and when names are shown
is the campaign's choice, and decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast, get_args

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPairRow, CampaignPromptRow, CampaignRow, CriterionVoteRow
from evals.campaigns.battles import Battle, check_open, shown_battle
from evals.campaigns.campaign import OPEN, as_campaign
from evals.campaigns.lifecycle import load_in
from evals.campaigns.raters import check_may_vote
from evals.tables import BattleRow, PairRow, VoteRow, insert_once
from evals.votes.votes import first_score
from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.evaluation_events import EvaluationResult, send_results

Choice = Literal["left", "right", "tie", "both_bad"]
CriterionChoice = Literal["left", "right", "tie"]
CHOICES: tuple[str, ...] = get_args(Choice)
CRITERION_CHOICES: tuple[str, ...] = get_args(CriterionChoice)
SKIP_REASONS = ("not_my_topic", "unclear", "broken", "other")
_COMMENT_LIMIT = 2_000  # characters
_VOTE_SCORES = {"won": 1.0, "tie": 0.5, "both_bad": 0.5, "lost": 0.0}


@dataclass(frozen=True)
class Ballot:
    """What accompanies a choice: votes on the campaign's other criteria, and a comment."""

    criteria: Mapping[str, CriterionChoice] = field(default_factory=dict)
    comment: str | None = None


_EMPTY = Ballot()


@dataclass(frozen=True)
class Reveal:
    """The stored vote; also which model wrote which answer, if the campaign reveals names after each vote.

    `choice` is the stored one: the first. `votes_by_voter` counts this voter's votes in the campaign. `repeated`: the
    battle had a vote already, so nothing was stored.
    """

    left_model: str | None
    right_model: str | None
    choice: Choice
    votes_by_voter: int
    repeated: bool = False


@dataclass(frozen=True)
class RaterProgress:
    """A rater's progress. `wanted` is None in a campaign without an end."""

    votes: int
    wanted: int | None
    skipped: int


@dataclass(frozen=True)
class RevealedBattle:
    """One of a rater's own battles after the end, with the names."""

    battle: Battle
    left_model: str
    right_model: str
    choice: Choice


def cast_vote(database: Database, battle_id: str, voter: str, choice: Choice, ballot: Ballot = _EMPTY) -> Reveal:
    """Stores a vote. When this returns, the vote is on disk.

    A repeated vote changes nothing: the first choice stays, and its reveal is returned.

    Raises:
        Invalid: `choice` is none of left, right, tie, both_bad, or a criterion or its choice is unknown.
        NotFound: there is no such battle, or it belongs to another voter; the error is the same.
        Conflict: the campaign is closed (code "closed"), or the battle was skipped (code "skipped").
        Forbidden: the voter's invite was revoked or has expired (code "invited_only").
    """
    if choice not in CHOICES:
        raise Invalid(f"A vote must be one of {', '.join(CHOICES)}.", param="choice")
    with database.write() as session:
        battle, campaign = _own_battle(session, battle_id, voter)
        _check_ballot(campaign, ballot)
        stored = session.get(VoteRow, battle_id)
        repeated = stored is not None
        if stored is None:
            _check_may_vote(session, campaign, voter)
            if battle.skip_reason is not None:
                raise Conflict("You have skipped this comparison. Go on to the next one.", code="skipped")
            if insert_once(session, VoteRow(battle_id=battle_id, voter=voter, choice=choice)):
                _count_vote(session, battle, choice, +1)
                for criterion, side in ballot.criteria.items():
                    insert_once(session, CriterionVoteRow(battle_id=battle_id, criterion=criterion, choice=side))
                battle.comment = (ballot.comment or "").strip() or battle.comment
            stored = session.get_one(VoteRow, battle_id)
        left, right = _revealed_names(session, campaign, battle)
        reveal = Reveal(left, right, cast(Choice, stored.choice), _count(session, voter, campaign.name), repeated)
        results = [] if repeated or battle.gold or battle.again else _evaluation_results(session, battle, choice)
    send_results(results)
    return reveal


def undo_vote(database: Database, voter: str, campaign: str = OPEN) -> Battle:
    """Takes back the voter's last vote and returns its battle, to be voted on again.

    Raises:
        NotFound: there is no vote to take back, or no such campaign.
        Conflict: its names were shown (code "revealed"), or the campaign is closed.
        Forbidden: the voter has no valid invite (code "invited_only").
    """
    last = (
        select(BattleRow)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign)
        .order_by(VoteRow.created.desc(), VoteRow.battle_id.desc())
        .limit(1)
        .with_for_update(of=BattleRow)
    )
    with database.write() as session:
        row = session.get(CampaignRow, campaign)
        battle = session.scalar(last)
        if row is None or battle is None:
            raise NotFound("There is no vote to take back.")
        _check_may_vote(session, row, voter)
        if battle.revealed is not None:
            raise Conflict("You have seen the names for this vote, so it can no longer change.", code="revealed")
        vote = session.get_one(VoteRow, battle.id)
        _count_vote(session, battle, vote.choice, -1)
        session.execute(delete(CriterionVoteRow).where(CriterionVoteRow.battle_id == battle.id))
        session.delete(vote)
        battle.undone += 1
        return shown_battle(session, row, battle)


def skip_battle(database: Database, battle_id: str, voter: str, reason: str) -> None:
    """Skips a battle without a vote; a repeated skip changes nothing.

    Raises:
        Invalid: the reason is none of `SKIP_REASONS`.
        NotFound: there is no such battle, or it belongs to another voter; the error is the same.
        Conflict: it has a vote already (code "voted"), or the campaign is closed.
        Forbidden: the voter has no valid invite (code "invited_only").
    """
    if reason not in SKIP_REASONS:
        raise Invalid(f"The reason must be one of {', '.join(SKIP_REASONS)}.", param="reason")
    with database.write() as session:
        battle, campaign = _own_battle(session, battle_id, voter)
        if session.get(VoteRow, battle_id) is not None:
            raise Conflict("You have already voted on this comparison.", code="voted")
        _check_may_vote(session, campaign, voter)
        battle.skip_reason = battle.skip_reason or reason


def comment_battle(database: Database, battle_id: str, voter: str, comment: str) -> None:
    """Stores a rater's comment on a battle, in place of an earlier one.

    Raises:
        Invalid: it is over 2,000 characters.
        NotFound: there is no such battle, or it belongs to another voter; the error is the same.
    """
    with database.write() as session:
        battle, campaign = _own_battle(session, battle_id, voter)
        _check_ballot(campaign, Ballot(comment=comment))
        battle.comment = comment.strip() or None


def votes_by(database: Database, voter: str, campaign: str = OPEN) -> int:
    """How many votes this voter has cast in a campaign."""
    with database.read() as session:
        return _count(session, voter, campaign)


def rater_progress(database: Database, voter: str, campaign: str = OPEN) -> RaterProgress:
    """A voter's progress in a campaign.

    Raises:
        NotFound: there is no such campaign.
    """
    skips = (
        select(func.count())
        .select_from(BattleRow)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign, BattleRow.skip_reason.is_not(None))
    )
    with database.read() as session:
        row = session.get(CampaignRow, campaign)
        if row is None:
            raise NotFound(f"There is no campaign {campaign!r}.", param="campaign")
        return RaterProgress(_count(session, voter, campaign), _wanted(session, row), session.scalar(skips) or 0)


def revealed_battles(database: Database, voter: str, campaign: str) -> list[RevealedBattle]:
    """The voter's own battles with their names, once a campaign that reveals them at the end is closed; else none.

    Raises:
        NotFound: there is no such campaign.
    """
    query = (
        select(BattleRow, VoteRow.choice)
        .join(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign, BattleRow.gold.is_(False))
        .order_by(VoteRow.created, VoteRow.battle_id)
    )
    with database.write() as session:
        stored = load_in(session, campaign)
        if stored.reveal != "at_end" or stored.state != "closed":
            return []
        row = session.get_one(CampaignRow, campaign)
        battles = []
        for battle, choice in session.execute(query).all():
            battle.revealed = battle.revealed or utcnow()
            left, right = _names(session, battle)
            battles.append(RevealedBattle(shown_battle(session, row, battle), left, right, cast(Choice, choice)))
        return battles


def _own_battle(session: Session, battle_id: str, voter: str) -> tuple[BattleRow, CampaignRow]:
    """The battle, locked, and its campaign.

    Raises:
        NotFound: there is no such battle, or it belongs to another voter; the error is the same.
    """
    battle = session.get(BattleRow, battle_id, with_for_update={"key_share": True})
    if battle is None or battle.voter != voter:
        raise NotFound("This comparison does not exist or is not yours. Go on to the next one.")
    return battle, session.get_one(CampaignRow, battle.campaign)


def _check_may_vote(session: Session, campaign: CampaignRow, voter: str) -> None:
    check_open(campaign)
    check_may_vote(session, as_campaign(campaign, 0), voter)


def _check_ballot(campaign: CampaignRow, ballot: Ballot) -> None:
    if unknown := set(ballot.criteria) - set(campaign.criteria):
        raise Invalid(f"{min(unknown)!r} is not a criterion of this comparison.", param="criteria")
    if any(choice not in CRITERION_CHOICES for choice in ballot.criteria.values()):
        raise Invalid(f"A criterion's vote must be one of {', '.join(CRITERION_CHOICES)}.", param="criteria")
    if len(ballot.comment or "") > _COMMENT_LIMIT:
        raise Invalid(f"The comment is over {_COMMENT_LIMIT:,} characters: shorten it.", param="comment")


def _revealed_names(session: Session, campaign: CampaignRow, battle: BattleRow) -> tuple[str | None, str | None]:
    """The names of the left and the right model if they may be shown now; stores that they were shown."""
    shown = campaign.reveal == "after_vote" or (
        campaign.reveal == "at_end" and as_campaign(campaign, 0).state == "closed"
    )
    if not shown or battle.gold:
        return None, None
    battle.revealed = battle.revealed or utcnow()
    return _names(session, battle)


def _names(session: Session, battle: BattleRow) -> tuple[str, str]:
    pair = session.get_one(PairRow, battle.pair_id)
    return (pair.model_2, pair.model_1) if battle.flipped else (pair.model_1, pair.model_2)


def _evaluation_results(session: Session, battle: BattleRow, choice: Choice) -> list[EvaluationResult]:
    """The vote as one result for each of the two models."""
    left, right = _names(session, battle)
    labels = {"left": ("won", "lost"), "right": ("lost", "won")}.get(choice, (choice, choice))
    details = {"campaign": battle.campaign, "battle": battle.id}
    return [
        EvaluationResult("blind_vote", model, label, _VOTE_SCORES[label], details | {"opponent": opponent})
        for model, label, opponent in ((left, labels[0], right), (right, labels[1], left))
    ]


def _count_vote(session: Session, battle: BattleRow, choice: str, step: int) -> None:
    """Adds a vote to its pair's counters, or subtracts it."""
    if battle.again or battle.gold:
        return
    pair = session.get_one(PairRow, battle.pair_id)
    table = CampaignPairRow
    session.execute(
        update(table)
        .where(table.campaign == battle.campaign, table.model_1 == pair.model_1, table.model_2 == pair.model_2)
        .where(table.prompt_id == pair.prompt_id, table.pair_id.is_(None) | (table.pair_id == pair.id))
        .values(voted=table.voted + step, points=table.points + step * first_score(choice, battle.flipped))
    )


def _count(session: Session, voter: str, campaign: str) -> int:
    query = (
        select(func.count())
        .select_from(VoteRow)
        .join(BattleRow, BattleRow.id == VoteRow.battle_id)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign)
    )
    return session.scalar(query) or 0


def _wanted(session: Session, campaign: CampaignRow) -> int | None:
    """How many votes one person is asked for: never more than there are pairs."""
    if campaign.open_ended:
        return campaign.votes_per_person
    query = select(func.count()).select_from(CampaignPromptRow).where(CampaignPromptRow.campaign == campaign.name)
    m = len(campaign.models)
    pairs = (session.scalar(query) or 0) * m * (m - 1) // 2
    return pairs if campaign.votes_per_person is None else min(campaign.votes_per_person, pairs)
