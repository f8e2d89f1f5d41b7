"""The next battle of a rater: two answers on shuffled sides, without a name.

Until a campaign's names are revealed, nothing that leaves this file names a model: a `Battle` has an opaque id, the
messages and two texts in which names are hidden, and the errors name none. The log has the reason of a model's failure.
"""

import asyncio
import random
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignPairRow, CampaignRow
from evals.campaigns.answers import Answered, ask_models, store_answers
from evals.campaigns.campaign import OPEN, as_campaign
from evals.campaigns.leaks import campaign_names, hide_names
from evals.campaigns.lifecycle import locked_row
from evals.campaigns.matches import BattleConditions, Match, Showing, new_pair
from evals.campaigns.pair_sampling import draw_side
from evals.campaigns.pair_selection import PairSelector
from evals.campaigns.raters import check_may_vote
from evals.campaigns.set_aside import Place, clear_in, set_aside_in
from evals.tables import BattleRow, PairRow, PromptRow, VoteRow, insert_once
from evals.votes.prompts import Prompt, as_prompt, typed_prompt
from models.chat.messages import Completer, Message
from models.database import Database
from models.errors import Conflict, Invalid, ParleyError, Unavailable

_MOST_TRIES = 12  # models that fail in one call


@dataclass(frozen=True)
class Battle:
    """One showing of two answers to one voter, and nothing that could name a model."""

    id: str
    messages: tuple[Message, ...]
    left: str
    right: str


@dataclass(frozen=True)
class BattleOptions:
    """How the next battle is chosen.

    Attributes:
        prompt: what the rater typed, in an open-ended campaign; both models are always asked.
        repeat_share: how often a pair that this voter voted on earlier is shown again, with shuffled sides, to
            measure the voter's consistency. 0 to 1; each pair at most once. None: the campaign's own share.
        ready: the models that can be asked now; None: all. Stored answers are shown whatever the model's state.
        seed: makes the choice of models, prompt and sides repeatable, for tests.
    """

    prompt: str | None = None
    repeat_share: float | None = None
    ready: Collection[str] | None = None
    seed: int | None = None


_DEFAULT = BattleOptions()


async def next_battle(
    database: Database,
    voter: str,
    completer_for: Callable[[str], Completer],
    campaign: str = OPEN,
    options: BattleOptions = _DEFAULT,
) -> Battle:
    """Two answers for this voter, sides shuffled; no model is asked if the answers are stored.

    A model that fails is set aside with a growing pause, and another pair is shown in the same call.

    Raises:
        NotFound: there is no such campaign, or it has no prompts.
        Invalid: it has fewer than two models, or a typed prompt is empty or not allowed.
        Conflict: the campaign is not open (code "not_open" or "closed"), the voter has voted enough ("finished"), or
            nothing is left for them ("nothing_left").
        Forbidden: the voter was not invited (code "invited_only").
        Unavailable: the models that are left do not answer. It does not say which.
    """
    seed = options.seed
    chance = random.Random(seed) if seed is not None else random.SystemRandom()  # noqa: S311 -- seeded for tests only
    typed = None
    if options.prompt is not None:
        # Database calls run in threads, so that they do not block the event loop.
        await asyncio.to_thread(_check_typed, database, campaign)
        typed = await asyncio.to_thread(typed_prompt, database, options.prompt)
    excluded: set[Place] = set()
    request = _BattleRequest(database, campaign, voter, options, typed, chance, excluded)
    for _ in range(_MOST_TRIES):
        upcoming = await asyncio.to_thread(request.prepared)
        if isinstance(upcoming, Battle):
            return upcoming
        answered = await ask_models(completer_for, upcoming.missing, upcoming.prompt, upcoming.sample)
        battle = await asyncio.to_thread(request.answered, upcoming, answered)
        if battle is not None:
            return battle
    raise Unavailable("The answers are not available. Try again in a moment.", code="set_aside", retry_after=10)


def open_battles(database: Database, voter: str, campaign: str = OPEN, limit: int = 2) -> list[Battle]:
    """The voter's newest battles without a vote or a skip, the oldest of them first: to go on after a reload."""
    query = (
        select(BattleRow)
        .outerjoin(VoteRow, VoteRow.battle_id == BattleRow.id)
        .where(BattleRow.voter == voter, BattleRow.campaign == campaign)
        .where(BattleRow.skip_reason.is_(None), VoteRow.battle_id.is_(None))
        .order_by(BattleRow.created.desc(), BattleRow.id)
        .limit(limit)
    )
    with database.read() as session:
        row = session.get(CampaignRow, campaign)
        if row is None or as_campaign(row, 0).state != "open":
            return []
        return [shown_battle(session, row, battle) for battle in reversed(list(session.scalars(query)))]


def shown_battle(session: Session, campaign: CampaignRow, battle: BattleRow) -> Battle:
    """A stored battle as the rater sees it."""
    pair = session.get_one(PairRow, battle.pair_id)
    prompt = as_prompt(session.get_one(PromptRow, pair.prompt_id))
    return _battle(battle, pair, prompt, campaign_names(session, campaign.models))


def check_open(campaign: CampaignRow) -> None:
    """Checks that a campaign takes votes now.

    Raises:
        Conflict: it has not opened (code "not_open"), or is closed (code "closed").
    """
    state = as_campaign(campaign, 0).state
    if state == "closed":
        raise Conflict("This comparison is closed. Thank you.", code="closed")
    if state != "open":
        raise Conflict("This comparison has not opened yet. Come back later.", code="not_open")


@dataclass(frozen=True)
class _BattleRequest:
    """One request for a battle: each method is one transaction."""

    database: Database
    campaign: str
    voter: str
    options: BattleOptions
    typed: Prompt | None
    chance: random.Random
    excluded: set[Place]

    def prepared(self) -> Battle | Match:
        """The battle if both answers are stored, else the match whose models must be asked."""
        with self.database.write() as session:
            row, matchmaker = self._pair_selector(session)
            try:
                match = matchmaker.match()
            except ParleyError as error:
                failure = error  # raised after the commit: what was set aside on the way stays set aside
            else:
                return match if match.pair is None else self._stored(session, row, match, matchmaker.history)
        raise failure

    def answered(self, match: Match, answered: Answered) -> Battle | None:
        """The battle with the new answers; None if a model failed, or if another pair must be shown."""
        texts = dict(match.answers or {})
        if match.fresh:
            texts |= {model: _storable(completion.text) for model, completion in answered.completions.items()}
        else:
            # Shared with the other pairs, even if this pair is not shown.
            texts |= store_answers(self.database, match.prompt, answered.completions, match.sample)
        with self.database.write() as session:
            row, matchmaker = self._pair_selector(session)
            works = [Place(model, "", prompt) for model in answered.completions for prompt in ("", match.prompt.id)]
            recovered = matchmaker.known_failures.intersection(works)
            clear_in(session, self.campaign, recovered)
            for failure in answered.failures:
                place = Place(failure.model, "", match.prompt.id if failure.on_prompt else "")
                set_aside_in(session, self.campaign, place, failure.reason)
                self.excluded.add(place)
            if answered.failures:
                return None
            matchmaker.check_own_votes()
            if not matchmaker.still_wanted(match):
                return None
            pair = new_pair(match.prompt, match.models, texts)
            if row.on_leak == "set_aside" and matchmaker.set_aside_leak(pair):
                return None
            return self._stored(session, row, replace(match, pair=pair), matchmaker.history)

    def _pair_selector(self, session: Session) -> tuple[CampaignRow, PairSelector]:
        row = locked_row(session, self.campaign)
        check_open(row)
        check_may_vote(session, as_campaign(row, 0), self.voter)
        share = row.repeat_share if self.options.repeat_share is None else self.options.repeat_share
        conditions = BattleConditions(self.voter, self.typed, share, self.options.ready)
        return row, PairSelector(session, row, conditions, self.chance, self.excluded)

    def _stored(self, session: Session, row: CampaignRow, match: Match, history: Sequence[Showing]) -> Battle:
        """Stores the battle, and its pair if that is new. A double click on a stored pair gets the same battle."""
        pair = match.pair
        assert pair is not None, "a match is stored with its answers"
        pair = self._fixed_pair(session, row, match, pair)
        earlier = [showing.flipped for showing in history if showing.models == match.models]
        battle = BattleRow(
            id=secrets.token_urlsafe(24),
            pair_id=pair.id,
            voter=self.voter,
            campaign=self.campaign,
            showing=1 if match.again else 0,
            flipped=draw_side(earlier, self.chance, balanced=row.reveal != "after_vote"),
            again=match.again,
            gold=match.gold,
            probability=match.probability,
        )
        if insert_once(session, battle):
            if not match.again and not match.gold:
                _count_showing(session, row, match, None if row.open_ended else pair.id)
        else:
            key = {"pair_id": pair.id, "voter": self.voter, "showing": battle.showing, "campaign": self.campaign}
            battle = session.scalars(select(BattleRow).filter_by(**key)).one()
        return _battle(battle, pair, match.prompt, campaign_names(session, row.models))

    def _fixed_pair(self, session: Session, row: CampaignRow, match: Match, pair: PairRow) -> PairRow:
        """The stored pair of this place: another rater's, if both got the answers at once."""
        if not (row.open_ended or match.again or match.gold):
            key = (self.campaign, *match.models, match.prompt.id, match.sample)
            cell = session.get(CampaignPairRow, key)
            if cell is not None and cell.pair_id is not None:
                return session.get_one(PairRow, cell.pair_id)
        values = {name: getattr(pair, name) for name in PairRow.__table__.columns.keys()}  # noqa: SIM118 -- columns
        insert_once(session, pair)
        return PairRow(**values)


def _count_showing(session: Session, row: CampaignRow, match: Match, pair_id: str | None) -> None:
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    statement = insert(CampaignPairRow).values(
        campaign=row.name,
        model_1=match.models[0],
        model_2=match.models[1],
        prompt_id=match.prompt.id,
        sample=match.sample,
        pair_id=pair_id,
        shown=1,
        voted=0,
        points=0.0,
    )
    key = ["campaign", "model_1", "model_2", "prompt_id", "sample"]
    session.execute(
        statement.on_conflict_do_update(
            index_elements=key, set_={"shown": CampaignPairRow.shown + 1, "pair_id": pair_id}
        )
    )


def _check_typed(database: Database, campaign: str) -> None:
    with database.read() as session:
        row = session.get(CampaignRow, campaign)
        if row is not None and not row.open_ended:
            raise Invalid(
                "This comparison has fixed questions: you cannot ask your own.", param="prompt", code="no_own_prompts"
            )


def _battle(battle: BattleRow, pair: PairRow, prompt: Prompt, names: tuple[str, ...]) -> Battle:
    answers = (pair.answer_1, pair.answer_2)
    left, right = (hide_names(text, names).text for text in (reversed(answers) if battle.flipped else answers))
    return Battle(id=battle.id, messages=prompt.messages, left=left, right=right)


def _storable(text: str) -> str:
    # Databases refuse lone surrogates (\ud800) and NUL, which a model's JSON may contain.
    return text.encode("utf-8", "replace").decode().replace("\x00", "�")
