"""Blind battles: which two answers a rater sees next, and the vote that is stored. It knows no page and no rating.

Until a vote is stored, what leaves here names no model: a `Battle` has an opaque id, the messages and two texts,
and every error here is worded without a name. What a model's failure really was is in the log, for the operator.
"""

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, cast, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow, insert_once
from evals.votes.prompts import Prompt, as_prompt, prompts, typed_prompt
from models.database import Database, new_ulid
from models.errors import Invalid, NotFound, ParleyError, Unavailable
from models.messages import Completer, Message

Choice = Literal["left", "right", "tie", "both_bad"]
CHOICES: tuple[str, ...] = get_args(Choice)
ANSWER_TOKENS = 512  # the most that an answer may have, so that a model that rambles cannot hold a rater up
_APART = 10  # other showings, at least, between a pair's two showings to one voter
_log = logging.getLogger("parley.arena")


@dataclass(frozen=True)
class Battle:
    """One showing of two answers to one voter. There is nothing else in it, so nothing else can leak."""

    id: str
    messages: tuple[Message, ...]
    left: str
    right: str


@dataclass(frozen=True)
class Reveal:
    """Who wrote which side, told once a vote is on disk; the choice is the one that counts, the first."""

    left_model: str
    right_model: str
    choice: Choice
    votes_by_voter: int
    votes_total: int


async def next_battle(
    database: Database,
    voter: str,
    completer_for: Callable[[str], Completer],
    models: Sequence[str],
    prompt: str | None = None,
    seed: int | None = None,
    repeat_share: float = 0.0,
) -> Battle:
    """Two answers for this voter, from the pair of models that was shown least.

    A stored pair that the voter has not seen is reused; else both models are asked at once, and the pair is stored
    with its battle in one transaction. With `prompt` (what the rater typed) both models are always asked.

    Args:
        models: ids of the models that may meet; at least two.
        seed: for tests; makes the choice of models, prompt and sides repeatable.
        repeat_share: how often a pair that this voter has voted on long before is shown once more, sides at random:
            people who agree with others cannot do so more than with themselves. 0 to 1; each pair once at most.

    Raises:
        Invalid: fewer than two models, or an empty prompt.
        NotFound: there are no prompts yet.
        Unavailable: a model failed, is not ready, or said nothing; nothing was stored. It does not say which.
    """
    chance = random.Random(seed) if seed is not None else random.SystemRandom()  # noqa: S311 -- seeded for tests only
    names = sorted(set(models))
    if len(names) < 2:
        raise Invalid("A blind comparison needs two models that are ready.", param="models")
    # The database is asked in threads, so that one rater's wait is not every rater's.
    if prompt is None and chance.random() < repeat_share:
        known = await asyncio.to_thread(_seen_long_ago, database, voter, names, chance)
        if known is not None:
            return await asyncio.to_thread(_store, database, voter, *known, chance.random() < 0.5, again=True)
    if prompt is not None:
        question = await asyncio.to_thread(typed_prompt, database, prompt)
        pair_models = await asyncio.to_thread(_least_shown, database, names, chance)
        stored = None
    else:
        pair_models, question, stored = await asyncio.to_thread(_choose, database, voter, names, chance)
    if stored is None:
        answers = await _ask_both(completer_for, pair_models, question)
        stored = PairRow(
            id=new_ulid(),
            prompt_id=question.id,
            model_1=pair_models[0],
            model_2=pair_models[1],
            answer_1=answers[0],
            answer_2=answers[1],
        )
    return await asyncio.to_thread(_store, database, voter, question, stored, chance.random() < 0.5)


def cast_vote(database: Database, battle_id: str, voter: str, choice: Choice) -> Reveal:
    """Stores a vote and reveals the sides. When this returns, the vote is on disk.

    Repeating it is harmless: the first choice stays, and its reveal comes back.

    Raises:
        Invalid: `choice` is none of left, right, tie, both_bad.
        NotFound: there is no such battle, or it is another voter's; the two cannot be told apart.
    """
    if choice not in CHOICES:
        raise Invalid(f"A vote is one of {', '.join(CHOICES)}.", param="choice")
    with database.write() as session:
        battle = session.get(BattleRow, battle_id)
        if battle is None or battle.voter != voter:
            raise NotFound("There is no such comparison, or it is not yours. Ask for the next one.")
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


def _shown_by_models(session: Session, names: Sequence[str]) -> Counter[tuple[str, str]]:
    query = (
        select(PairRow.model_1, PairRow.model_2, func.count())
        .join(BattleRow, BattleRow.pair_id == PairRow.id)
        .where(PairRow.model_1.in_(names), PairRow.model_2.in_(names), BattleRow.again.is_(False))
        .group_by(PairRow.model_1, PairRow.model_2)
    )
    return Counter({(first, second): n for first, second, n in session.execute(query)})


def _least_shown(database: Database, names: Sequence[str], chance: random.Random) -> tuple[str, str]:
    with database.read() as session:
        shown = _shown_by_models(session, names)
    pairs = list(combinations(names, 2))
    chance.shuffle(pairs)
    return min(pairs, key=lambda pair: shown[pair])


def _seen_long_ago(
    database: Database, voter: str, names: Sequence[str], chance: random.Random
) -> tuple[Prompt, PairRow] | None:
    """A pair that this voter voted on at least `_APART` showings ago, and was not shown again; None without one."""
    mine = select(BattleRow).where(BattleRow.voter == voter).order_by(BattleRow.created, BattleRow.id)
    with database.read() as session:
        battles = list(session.scalars(mine))
        voted = set(session.scalars(select(VoteRow.battle_id).where(VoteRow.voter == voter)))
        twice = {battle.pair_id for battle in battles if battle.again}
        early = battles[: max(0, len(battles) - _APART)]
        ids = sorted({one.pair_id for one in early if one.id in voted} - twice)
        chance.shuffle(ids)
        for pair_id in ids:
            pair = session.get_one(PairRow, pair_id)
            if {pair.model_1, pair.model_2} <= set(names) and pair.answer_1 and pair.answer_2:
                prompt = session.get_one(PromptRow, pair.prompt_id)
                return as_prompt(prompt), pair
    return None


def _choose(
    database: Database, voter: str, names: Sequence[str], chance: random.Random
) -> tuple[tuple[str, str], Prompt, PairRow | None]:
    """The least shown models, their least shown prompt that is new to the voter, and a stored pair if there is one.

    A voter who has seen every prompt with every pair of models goes on with fresh answers to the prompts that came
    least often: there is no dead end.
    """
    candidates = prompts(database)
    if not candidates:
        raise NotFound("There are no prompts yet. Type a question of your own.")
    chance.shuffle(candidates)
    pairs = list(combinations(names, 2))
    chance.shuffle(pairs)
    with database.read() as session:
        shown = _shown_by_models(session, names)
        pairs.sort(key=lambda pair: shown[pair])
        for models in pairs:
            mine = _battles_of(select(PairRow.prompt_id), models).where(BattleRow.voter == voter)
            seen = set(session.scalars(mine))
            fresh = [prompt for prompt in candidates if prompt.id not in seen]
            if fresh:
                prompt = min(fresh, key=lambda p, n=_shown_by_prompt(session, models): n[p.id])
                return models, prompt, _stored_pair(session, models, prompt, chance)
        prompt = min(candidates, key=lambda p, n=_shown_by_prompt(session, pairs[0]): n[p.id])
        return pairs[0], prompt, None


def _battles_of(query: Any, models: tuple[str, str]) -> Any:
    joined = query.join(BattleRow, BattleRow.pair_id == PairRow.id).where(BattleRow.again.is_(False))
    return joined.where(PairRow.model_1 == models[0], PairRow.model_2 == models[1])


def _shown_by_prompt(session: Session, models: tuple[str, str]) -> Counter[str]:
    counted = _battles_of(select(PairRow.prompt_id, func.count()), models).group_by(PairRow.prompt_id)
    shown: Counter[str] = Counter()
    found: Any = session.execute(counted)
    for prompt_id, n in found:
        shown[prompt_id] = n
    return shown


def _stored_pair(session: Session, models: tuple[str, str], prompt: Prompt, chance: random.Random) -> PairRow | None:
    query = (
        select(PairRow)
        .where(PairRow.prompt_id == prompt.id, PairRow.model_1 == models[0], PairRow.model_2 == models[1])
        .where(PairRow.answer_1 != "", PairRow.answer_2 != "")
    )  # an imported vote may come without its answers
    stored = list(session.scalars(query.order_by(PairRow.id)))
    return chance.choice(stored) if stored else None


async def _ask_both(
    completer_for: Callable[[str], Completer], models: tuple[str, str], prompt: Prompt
) -> tuple[str, str]:
    """Both answers, asked at once. One that fails takes the other along: half a pair is no pair."""

    async def ask(model: str) -> str:
        answer = await completer_for(model)(prompt.messages, max_tokens=ANSWER_TOKENS)
        if not answer.text.strip():
            raise Unavailable(f"{model} answered nothing")
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


def _store(
    database: Database, voter: str, prompt: Prompt, pair: PairRow, flipped: bool, *, again: bool = False
) -> Battle:
    """The battle, on disk, with its pair where that is new. A double click on a stored pair gets one battle."""
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
            known = session.scalars(select(BattleRow).filter_by(pair_id=pair_id, voter=voter, showing=showing)).one()
            battle_id, flipped = known.id, known.flipped
    left, right = reversed(answers) if flipped else answers
    return Battle(id=battle_id, messages=prompt.messages, left=left, right=right)
