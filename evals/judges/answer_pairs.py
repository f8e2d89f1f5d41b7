"""Two models' answers to the same prompts: read from the database, and requested if they are missing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.campaigns.answers import ANSWER_TOKENS
from evals.request_pool import RequestPool
from evals.tables import PairRow
from evals.votes.prompts import Prompt, prompts
from models.chat.messages import Completer, Message
from models.database import Database, new_ulid
from models.errors import Invalid, NotFound, Unavailable


@dataclass(frozen=True)
class AnswerPair:
    """One prompt with the answers of `model_1` and `model_2`; the models are in sorted order, as they are stored.

    `histories` has the conversation before the question for each model, if they differ; otherwise it is the
    prompt's. Pairs that share a `cluster` are not independent; without it, pairs of one prompt are not. `models`: the
    models' names, if they are known.
    """

    id: str
    prompt: Prompt
    answer_1: str
    answer_2: str
    histories: tuple[tuple[Message, ...], tuple[Message, ...]] | None = None
    cluster: str = ""
    models: tuple[str, ...] = ()

    def history(self, side: str) -> tuple[Message, ...]:
        """The conversation before the question on the side of model "1" or "2"."""
        return self.histories[int(side) - 1] if self.histories else self.prompt.messages[:-1]


def select_prompts(database: Database, selection: int | Sequence[str] | None) -> list[Prompt]:
    """The prompts with these ids; or that many, held-out ones first and categories in turn; or all.

    Raises:
        Invalid: fewer than one is wanted.
        NotFound: an id is unknown, or no prompts are stored.
    """
    if selection is not None and not isinstance(selection, int):
        named = prompts(database, ids=selection)
        if not named:
            raise Invalid("Name at least one prompt.", param="prompts")
        return named
    stored = prompts(database)
    if not stored:
        raise NotFound("There are no prompts yet: add some with `parley prompts add FILE`.", param="prompts")
    if selection is None:
        return stored
    if selection < 1:
        raise Invalid("The number of prompts must be 1 or more.", param="prompts")
    in_category: dict[str | None, int] = {}
    place: dict[str, int] = {}
    for prompt in sorted(stored, key=lambda prompt: not prompt.held_out):
        place[prompt.id] = in_category[prompt.category] = in_category.get(prompt.category, 0) + 1
    return sorted(stored, key=lambda prompt: (not prompt.held_out, place[prompt.id]))[:selection]


async def collect_answer_pairs(
    database: Database,
    completer_for: Callable[[str], Completer],
    models: tuple[str, str],
    chosen: Sequence[Prompt],
    pool: RequestPool,
) -> list[AnswerPair]:
    """A pair for each prompt that both models answered, in the order of the prompts; counts one request per prompt.

    An empty answer is kept: the judge decides what it is worth.

    Raises:
        Unavailable: no prompt was answered by both models.
    """
    first, second = sorted(models)
    stored = await asyncio.to_thread(_stored_pairs, database, (first, second), [prompt.id for prompt in chosen])
    missing = [prompt for prompt in chosen if prompt.id not in stored]
    pool.skip(len(chosen) - len(missing))

    async def answer(prompt: Prompt) -> None:
        calls = [completer_for(model)(prompt.messages, max_tokens=ANSWER_TOKENS) for model in (first, second)]
        answer_1, answer_2 = await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(answer_1, BaseException):
            raise answer_1
        if isinstance(answer_2, BaseException):
            raise answer_2
        row = PairRow(
            id=new_ulid(),
            prompt_id=prompt.id,
            model_1=first,
            model_2=second,
            answer_1=answer_1.text,
            answer_2=answer_2.text,
        )
        await asyncio.to_thread(_store, database, row)
        stored[prompt.id] = (row.id, row.answer_1, row.answer_2)

    await pool.map(missing, answer, "answering")
    if not stored:
        reason = f" {pool.failures[0]}" if pool.failures else ""
        raise Unavailable(f"No prompt was answered by both {first} and {second}.{reason}")
    return [
        AnswerPair(stored[prompt.id][0], prompt, *stored[prompt.id][1:], models=(first, second))
        for prompt in chosen
        if prompt.id in stored
    ]


def _stored_pairs(
    database: Database, models: tuple[str, str], prompt_ids: Sequence[str]
) -> dict[str, tuple[str, str, str]]:
    """The oldest stored pair of each prompt: (id, answer_1, answer_2)."""
    query = (
        select(PairRow)
        .where(PairRow.model_1 == models[0], PairRow.model_2 == models[1], PairRow.prompt_id.in_(prompt_ids))
        .order_by(PairRow.id.desc())
    )
    with database.read() as session:
        return {row.prompt_id: (row.id, row.answer_1, row.answer_2) for row in session.scalars(query)}


def _store(database: Database, row: PairRow) -> None:
    with database.write() as session:
        session.add(row)
