"""What the raters' requests do: each method takes a visit and a JSON body and returns what the browser receives."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, cast

from evals.campaigns.ballots import (
    Ballot,
    Choice,
    RaterProgress,
    RevealedBattle,
    cast_vote,
    comment_battle,
    rater_progress,
    revealed_battles,
    skip_battle,
    undo_vote,
)
from evals.campaigns.battles import Battle, BattleOptions, next_battle, open_battles
from evals.campaigns.campaign import OPEN, Campaign
from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.raters import (
    check_may_vote,
    count_from_address,
    hashed_address,
    join_by_open_link,
    load_rater,
    sign_rater,
)
from models.database import utcnow
from models.errors import Busy, Conflict, Forbidden, Invalid, NotFound
from ui.backend.context import PageContext
from ui.raters.answer_html import answer_html
from ui.raters.limits import PER_TIME, RATERS_PER_ADDRESS
from ui.raters.texts import load_texts
from ui.raters.visit import Visit

_CAMPAIGN_FRESH_S, _MODELS_FRESH_S = 1.0, 2.0
_MOST_JOINED = 20_000
_SHOWN_AGAIN = 3  # open pairs after a reload: the one on the page, the next one, and one of the rater's own


class RaterVotes:
    """The handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, secret: str) -> None:
        self._context = context
        self._database = context.database
        self._secret = secret
        self._campaigns: dict[str, tuple[float, Campaign]] = {}
        self._ready: tuple[float, list[str]] = (float("-inf"), [])
        self._joined: OrderedDict[tuple[str, str], bool] = OrderedDict()

    async def state(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that the page shows first: texts, the campaign, the rater's progress, and open pairs."""
        return await asyncio.to_thread(self._state, visit)

    async def next(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        """The next pair, or one on the rater's own question (`prompt`)."""
        prompt = _text(body, "prompt").strip() or None
        await asyncio.to_thread(self._join, visit)
        ready = await asyncio.to_thread(self._ready_models)
        settings = self._context.settings
        share = settings.vote_repeat_share if visit.campaign == OPEN else None
        options = BattleOptions(prompt, repeat_share=share, ready=ready)
        battle = await next_battle(
            self._database, cast(str, visit.voter), self._context.answering, visit.campaign, options
        )
        return {"battle": battle_json(battle)}

    async def vote(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        """Stores a vote; returns the names if the campaign reveals them now."""
        return await asyncio.to_thread(self._vote, visit, body)

    async def skip(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        """Skips a pair for a reason, with a comment."""
        return await asyncio.to_thread(self._skip, visit, body)

    async def undo(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        """Takes back the last vote; returns its pair."""
        return await asyncio.to_thread(self._undo, visit)

    def campaign_or_none(self, name: str) -> Campaign | None:
        """The campaign, at most a second old; None if there is none."""
        try:
            return self._campaign(name)
        except NotFound:
            return None

    def _campaign(self, name: str) -> Campaign:
        now = time.monotonic()
        at, campaign = self._campaigns.get(name, (float("-inf"), None))
        if campaign is None or now - at > _CAMPAIGN_FRESH_S:
            campaign = load_campaign(self._database, name)
            self._campaigns[name] = (now, campaign)
        return campaign

    def _ready_models(self) -> list[str]:
        at, ready = self._ready
        if time.monotonic() - at > _MODELS_FRESH_S:
            ready = [model.id for model in self._context.models(judges=False) if model.ready]
            self._ready = (time.monotonic(), ready)
        return ready

    def _join(self, visit: Visit) -> None:
        """Stores a rater who uses an open link.

        Raises:
            Busy: too many raters came from this address (code "too_many").
            Forbidden: the campaign needs an invite.
        """
        key = (visit.campaign, cast(str, visit.voter))
        if key in self._joined:
            return
        campaign = self._campaign(visit.campaign)
        if load_rater(self._database, *key) is None:
            if campaign.access != "open":
                raise Forbidden("This needs an invite.", code="invited_only")
            address = hashed_address(self._secret, visit.address)
            started = count_from_address(self._database, visit.campaign, address, utcnow() - PER_TIME)
            if started >= RATERS_PER_ADDRESS:
                raise Busy("Too many raters from one address.", code="too_many", retry_after=3600)
            join_by_open_link(self._database, *key, address)
        self._joined[key] = True
        if len(self._joined) > _MOST_JOINED:
            self._joined.popitem(last=False)

    def _state(self, visit: Visit) -> dict[str, Any]:
        voter = cast(str, visit.voter)
        campaign = self._campaign(visit.campaign)
        rater = load_rater(self._database, visit.campaign, voter)
        if campaign.access != "open" and rater is None:
            raise Forbidden("This needs an invite.", code="invited_only")
        if campaign.state == "open":  # a closed one shows its names also to those whose invite has expired
            with self._database.read() as session:
                check_may_vote(session, campaign, voter)
        own_link = rater is not None and rater.invite_id is not None
        revealed = revealed_battles(self._database, voter, visit.campaign) if campaign.state == "closed" else []
        return {
            "campaign": _campaign_json(campaign),
            "texts": dict(load_texts(campaign.language, self._context.settings.home)),
            "progress": _progress_json(rater_progress(self._database, voter, visit.campaign)),
            "battles": [
                battle_json(battle)
                for battle in open_battles(self._database, voter, visit.campaign, limit=_SHOWN_AGAIN)
            ],
            "link": f"/vote/r/{sign_rater(self._secret, rater)}" if rater is not None and own_link else None,
            "revealed": [_revealed_json(each) for each in revealed],
        }

    def _vote(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        criteria = body.get("criteria") or {}
        if not isinstance(criteria, dict):
            raise Invalid("The criteria must be an object.")
        ballot = Ballot(cast(Any, criteria), _text(body, "comment") or None)
        choice = cast(Choice, _text(body, "choice"))
        try:
            reveal = cast_vote(self._database, _text(body, "battle"), cast(str, visit.voter), choice, ballot)
        except NotFound as error:
            raise NotFound(error.message, code="gone") from None
        if reveal.repeated:
            raise Conflict("You have already voted on this comparison.", code="voted")
        return {
            "choice": reveal.choice,
            "left_model": reveal.left_model,
            "right_model": reveal.right_model,
            "votes": reveal.votes_by_voter,
        }

    def _skip(self, visit: Visit, body: Mapping[str, Any]) -> dict[str, Any]:
        battle, voter, comment = _text(body, "battle"), cast(str, visit.voter), _text(body, "comment")
        try:
            skip_battle(self._database, battle, voter, _text(body, "reason"))
            if comment.strip():
                comment_battle(self._database, battle, voter, comment)
        except NotFound as error:
            raise NotFound(error.message, code="gone") from None
        return {}

    def _undo(self, visit: Visit) -> dict[str, Any]:
        voter = cast(str, visit.voter)
        try:
            battle = undo_vote(self._database, voter, visit.campaign)
        except NotFound as error:
            raise NotFound(error.message, code="no_undo") from None
        progress = rater_progress(self._database, voter, visit.campaign)
        return {"battle": battle_json(battle), "votes": progress.votes}


def battle_json(battle: Battle) -> dict[str, Any]:
    """A pair as the browser receives it: an opaque id, the messages, and two answers as safe HTML."""
    return {
        "id": battle.id,
        # Instructions to the model are not part of what raters judge.
        "messages": [
            {"role": message.role, "text": message.content} for message in battle.messages if message.role != "system"
        ],
        "left": answer_html(battle.left),
        "right": answer_html(battle.right),
    }


def _revealed_json(revealed: RevealedBattle) -> dict[str, Any]:
    question = next((m.content for m in reversed(revealed.battle.messages) if m.role == "user"), "")
    return {
        "question": question,
        "left_model": revealed.left_model,
        "right_model": revealed.right_model,
        "choice": revealed.choice,
    }


def _campaign_json(campaign: Campaign) -> dict[str, Any]:
    """What raters may know of a campaign: no models, and only the prompts that they are shown."""
    return {
        "name": campaign.name,
        "title": campaign.title,
        "question": campaign.question,
        "welcome": campaign.welcome,
        "thanks": campaign.thanks,
        "language": campaign.language,
        "criteria": list(campaign.criteria),
        "own_questions": campaign.open_ended,
        "reveal": campaign.reveal,
        # Without models, the page shows the same text as before a planned opening.
        "state": "not_open" if campaign.state in ("draft", "scheduled") else campaign.state,
    }


def _progress_json(progress: RaterProgress) -> dict[str, Any]:
    return {"votes": progress.votes, "wanted": progress.wanted, "skipped": progress.skipped}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise Invalid(f"{name} must be a text.")
    # Databases refuse lone surrogates and NUL, which JSON may contain.
    return value.encode("utf-8", "replace").decode().replace("\x00", "�")
