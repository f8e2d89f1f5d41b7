"""Matchmaking: which two models a rater compares next, on which prompt, and whether stored answers are reused."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from evals.tables import BattleRow, PairRow, PromptRow, VoteRow
from evals.votes.prompts import Prompt, as_prompt, prompts
from models.database import Database
from models.errors import NotFound

_MIN_BATTLES_BETWEEN = 10  # between two showings of a pair to one voter


@dataclass(frozen=True)
class Match:
    """Two models, the prompt, and a stored pair of answers to it; None if both models must be asked."""

    models: tuple[str, str]
    prompt: Prompt
    pair: PairRow | None


def least_shown_models(database: Database, names: Sequence[str], chance: random.Random) -> tuple[str, str]:
    """The pair of models that was shown least."""
    with database.read() as session:
        shown = _shown_by_models(session, names)
    pairs = list(combinations(names, 2))
    chance.shuffle(pairs)
    return min(pairs, key=lambda pair: shown[pair])


def repeat_match(database: Database, voter: str, names: Sequence[str], chance: random.Random) -> Match | None:
    """A pair that this voter voted on at least 10 battles ago and was not shown again; None without one."""
    query = select(BattleRow).where(BattleRow.voter == voter).order_by(BattleRow.created, BattleRow.id)
    with database.read() as session:
        battles = list(session.scalars(query))
        voted = set(session.scalars(select(VoteRow.battle_id).where(VoteRow.voter == voter)))
        repeated = {battle.pair_id for battle in battles if battle.again}
        old_enough = battles[: max(0, len(battles) - _MIN_BATTLES_BETWEEN)]
        pair_ids = sorted({battle.pair_id for battle in old_enough if battle.id in voted} - repeated)
        chance.shuffle(pair_ids)
        for pair_id in pair_ids:
            pair = session.get_one(PairRow, pair_id)
            if {pair.model_1, pair.model_2} <= set(names) and pair.answer_1 and pair.answer_2:
                prompt = as_prompt(session.get_one(PromptRow, pair.prompt_id))
                return Match((pair.model_1, pair.model_2), prompt, pair)
    return None


def next_match(database: Database, voter: str, names: Sequence[str], chance: random.Random) -> Match:
    """The least shown models on their least shown prompt that is new to the voter, with a stored pair if there is one.

    A voter who has seen every prompt with every pair of models gets fresh answers to the least shown prompt.

    Raises:
        NotFound: there are no prompts.
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
            of_voter = _battles_of(select(PairRow.prompt_id), models).where(BattleRow.voter == voter)
            shown_to_voter = set(session.scalars(of_voter))
            new = [prompt for prompt in candidates if prompt.id not in shown_to_voter]
            if new:
                prompt = _least_shown_prompt(session, models, new)
                return Match(models, prompt, _stored_pair(session, models, prompt, chance))
        return Match(pairs[0], _least_shown_prompt(session, pairs[0], candidates), None)


def _shown_by_models(session: Session, names: Sequence[str]) -> Counter[tuple[str, str]]:
    query = (
        select(PairRow.model_1, PairRow.model_2, func.count())
        .join(BattleRow, BattleRow.pair_id == PairRow.id)
        .where(PairRow.model_1.in_(names), PairRow.model_2.in_(names), BattleRow.again.is_(False))
        .group_by(PairRow.model_1, PairRow.model_2)
    )
    return Counter({(first, second): n for first, second, n in session.execute(query)})


def _battles_of(query: Any, models: tuple[str, str]) -> Any:
    joined = query.join(BattleRow, BattleRow.pair_id == PairRow.id).where(BattleRow.again.is_(False))
    return joined.where(PairRow.model_1 == models[0], PairRow.model_2 == models[1])


def _least_shown_prompt(session: Session, models: tuple[str, str], candidates: Sequence[Prompt]) -> Prompt:
    counted = _battles_of(select(PairRow.prompt_id, func.count()), models).group_by(PairRow.prompt_id)
    shown: Counter[str] = Counter(dict(session.execute(counted).all()))
    return min(candidates, key=lambda prompt: shown[prompt.id])


def _stored_pair(session: Session, models: tuple[str, str], prompt: Prompt, chance: random.Random) -> PairRow | None:
    query = (
        select(PairRow)
        .where(PairRow.prompt_id == prompt.id, PairRow.model_1 == models[0], PairRow.model_2 == models[1])
        .where(PairRow.answer_1 != "", PairRow.answer_2 != "")
    )  # an imported vote may have no answers
    stored = list(session.scalars(query.order_by(PairRow.id)))
    return chance.choice(stored) if stored else None
