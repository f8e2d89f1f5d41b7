"""Blind battles: two answers on shuffled sides for a rater, and the vote that reveals the models.

Until a vote is stored, nothing that leaves this file names a model: a `Battle` has an opaque id, the messages and two
texts, and the errors name none. The log has the reason of a model's failure for the operator.
"""

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, VoteRow, insert_once
from evals.votes.pair_selection import Match, least_shown_models, next_match, repeat_match
from evals.votes.prompts import Prompt, typed_prompt
from models.database import Database, new_ulid
from models.errors import Invalid, NotFound, ParleyError, Unavailable
from models.messages import Completer, Message

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[str, ...] = get_args(Choice)
ANSWER_TOKENS = 512  # the longest answer, so that a rambling model does not keep a rater waiting
_log = logging.getLogger("parley.arena")


@dataclass(frozen=True)
class Battle:
    """One showing of two answers to one voter, and nothing that could name a model."""

    id: str
    messages: tuple[Message, ...]
    left: str
    right: str


@dataclass(frozen=True)
class Reveal:
    """Which model wrote which side, once a vote is on disk. `choice` is the stored one: the first."""

    left_model: str
    right_model: str
    choice: Choice
    votes_by_voter: int
    votes_total: int


@dataclass(frozen=True)
class BattleOptions:
    """How the next battle is chosen.

    Attributes:
        prompt: what the rater typed; both models are always asked.
        repeat_share: how often a pair that this voter voted on long before is shown once more, with shuffled sides, to
            measure the voter's consistency. 0 to 1; each pair at most once.
        seed: for tests: makes the choice of models, prompt and sides repeatable.
    """

    prompt: str | None = None
    repeat_share: float = 0.0
    seed: int | None = None


_DEFAULT = BattleOptions()


async def next_battle(
    database: Database,
    voter: str,
    completer_for: Callable[[str], Completer],
    models: Sequence[str],
    options: BattleOptions = _DEFAULT,
) -> Battle:
    """Two answers for this voter, sides shuffled, from the pair of models that was shown least.

    A stored pair that the voter has not seen is reused; otherwise both models are asked at once, and the pair is stored
    with its battle in one transaction.

    Args:
        models: ids of the models that may meet; at least two.

    Raises:
        Invalid: fewer than two models, or an empty prompt.
        NotFound: there are no prompts yet.
        Unavailable: a model failed, is not ready, or answered nothing; nothing was stored. It does not say which.
    """
    seed = options.seed
    chance = random.Random(seed) if seed is not None else random.SystemRandom()  # noqa: S311 -- seeded for tests only
    names = sorted(set(models))
    if len(names) < 2:
        raise Invalid("A blind comparison needs two models that are ready.", param="models")
    # Database calls run in threads, so that they do not block the event loop.
    if options.prompt is None and chance.random() < options.repeat_share:
        repeat = await asyncio.to_thread(repeat_match, database, voter, names, chance)
        if repeat is not None and repeat.pair is not None:
            return await asyncio.to_thread(_store, database, voter, repeat, chance.random() < 0.5, again=True)
    if options.prompt is not None:
        question = await asyncio.to_thread(typed_prompt, database, options.prompt)
        match = Match(await asyncio.to_thread(least_shown_models, database, names, chance), question, None)
    else:
        match = await asyncio.to_thread(next_match, database, voter, names, chance)
    if match.pair is None:
        answer_1, answer_2 = await _ask_both(completer_for, match.models, match.prompt)
        model_1, model_2 = match.models
        pair = PairRow(
            id=new_ulid(),
            prompt_id=match.prompt.id,
            model_1=model_1,
            model_2=model_2,
            answer_1=answer_1,
            answer_2=answer_2,
        )
        match = replace(match, pair=pair)
    return await asyncio.to_thread(_store, database, voter, match, chance.random() < 0.5)


def cast_vote(database: Database, battle_id: str, voter: str, choice: Choice) -> Reveal:
    """Stores a vote and reveals the sides. When this returns, the vote is on disk.

    A repeated vote changes nothing: the first choice stays, and its reveal is returned.

    Raises:
        Invalid: `choice` is none of left, right, tie, both_bad.
        NotFound: there is no such battle, or it belongs to another voter; the error is the same.
    """
    if choice not in CHOICES:
        raise Invalid(f"A vote must be one of {', '.join(CHOICES)}.", param="choice")
    with database.write() as session:
        battle = session.get(BattleRow, battle_id)
        if battle is None or battle.voter != voter:
            raise NotFound("This comparison does not exist or is not yours. Go on to the next one.")
        insert_once(session, VoteRow(battle_id=battle_id, voter=voter, choice=choice))
        vote = session.get_one(VoteRow, battle_id)
        pair = session.get_one(PairRow, battle.pair_id)
        sides = (pair.model_2, pair.model_1) if battle.flipped else (pair.model_1, pair.model_2)
        return Reveal(
            left_model=sides[0],
            right_model=sides[1],
            choice=cast(Choice, vote.choice),
            votes_by_voter=_count(session, voter),
            votes_total=session.scalar(select(func.count()).select_from(VoteRow)) or 0,
        )


def votes_by(database: Database, voter: str) -> int:
    """How many votes this voter has cast."""
    with database.read() as session:
        return _count(session, voter)


def _count(session: Session, voter: str) -> int:
    return session.scalar(select(func.count()).select_from(VoteRow).where(VoteRow.voter == voter)) or 0


async def _ask_both(
    completer_for: Callable[[str], Completer], models: tuple[str, str], prompt: Prompt
) -> tuple[str, str]:
    """Both answers, requested at once. If one fails, the other is cancelled."""

    async def ask(model: str) -> str:
        answer = await completer_for(model)(prompt.messages, max_tokens=ANSWER_TOKENS)
        if not answer.text.strip():
            raise Unavailable(f"{model} returned an empty answer")
        return answer.text

    tasks = [asyncio.ensure_future(ask(model)) for model in models]
    try:
        left, right = await asyncio.gather(*tasks)
    except ParleyError as error:
        _log.warning("no battle between %s and %s: %s", *models, error)
        # `from None`: the cause would name the model, and a page may show a cause.
        raise Unavailable(
            "One of the two models did not answer. Try again in a moment.", retry_after=error.retry_after or 5
        ) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return left, right


def _store(database: Database, voter: str, match: Match, flipped: bool, *, again: bool = False) -> Battle:
    """The battle, on disk, with its pair if that is new. A double click on a stored pair gets one battle."""
    pair = match.pair
    assert pair is not None, "a match is stored with its answers"
    # Read before the session expires the row's attributes.
    pair_id, answers = pair.id, (pair.answer_1, pair.answer_2)
    showing = 1 if again else 0
    with database.write() as session:
        insert_once(session, pair)
        battle = BattleRow(
            id=secrets.token_urlsafe(24), pair_id=pair_id, voter=voter, showing=showing, flipped=flipped, again=again
        )
        if insert_once(session, battle):
            battle_id = battle.id
        else:
            stored = session.scalars(select(BattleRow).filter_by(pair_id=pair_id, voter=voter, showing=showing)).one()
            battle_id, flipped = stored.id, stored.flipped
    left, right = reversed(answers) if flipped else answers
    return Battle(id=battle_id, messages=match.prompt.messages, left=left, right=right)
