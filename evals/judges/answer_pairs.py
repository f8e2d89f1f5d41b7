"""Two models' answers to prompts: the stored ones where there are, else asked for and stored. It judges nothing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from evals.request_pool import Steps
from evals.tables import PairRow
from evals.votes.blind_battles import ANSWER_TOKENS
from evals.votes.prompts import Prompt, prompts
from models.database import Database, new_ulid
from models.errors import Invalid, NotFound, Unavailable
from models.messages import Completer, Message


@dataclass(frozen=True)
class AnsweredPair:
    """One prompt with the answers of `model_1` and `model_2`, the models in sorted order as they are stored.

    `own` has what was said before the question at each model, where each had a conversation of its own; else that is
    the prompt's. `cluster`: pairs that share it are not independent; without it, those of one prompt.
    """

    id: str
    prompt: Prompt
    answer_1: str
    answer_2: str
    own: tuple[tuple[Message, ...], tuple[Message, ...]] | None = None
    cluster: str = ""

    def before(self, side: str) -> tuple[Message, ...]:
        """What led to the question on the side of model "1" or "2"."""
        return self.own[int(side) - 1] if self.own else self.prompt.messages[:-1]


def pick_prompts(database: Database, wanted: int | Sequence[str] | None) -> list[Prompt]:
    """The prompts with these ids; or so many, held-out ones first, categories in turn; or all.

    Raises:
        Invalid: fewer than one is wanted.
        NotFound: an id is unknown, or there are no prompts at all.
    """
    if wanted is not None and not isinstance(wanted, int):
        found = prompts(database, ids=wanted)
        if not found:
            raise Invalid("Name at least one prompt.", param="prompts")
        return found
    found = prompts(database)
    if not found:
        raise NotFound("There are no prompts yet: add some with `parley prompts add FILE`.", param="prompts")
    if wanted is None:
        return found
    if wanted < 1:
        raise Invalid("Ask for one prompt at least.", param="prompts")
    seen: dict[str | None, int] = {}
    turn: dict[str, int] = {}
    for prompt in sorted(found, key=lambda prompt: not prompt.held_out):
        turn[prompt.id] = seen[prompt.category] = seen.get(prompt.category, 0) + 1
    return sorted(found, key=lambda prompt: (not prompt.held_out, turn[prompt.id]))[:wanted]


async def answered_pairs(
    database: Database,
    completer_for: Callable[[str], Completer],
    models: tuple[str, str],
    chosen: Sequence[Prompt],
    steps: Steps,
) -> list[AnsweredPair]:
    """A pair for each prompt that both models answered, in the order of the prompts.

    Counts one step for each prompt. An empty answer is an answer here: a judge can say what it is worth.
    """
    first, second = sorted(models)
    stored = await asyncio.to_thread(_stored, database, (first, second), [prompt.id for prompt in chosen])
    missing = [prompt for prompt in chosen if prompt.id not in stored]
    steps.skip(len(chosen) - len(missing))

    async def ask(prompt: Prompt) -> None:
        calls = [completer_for(model)(prompt.messages, max_tokens=ANSWER_TOKENS) for model in (first, second)]
        one, two = await asyncio.gather(*calls, return_exceptions=True)
        for answer in (one, two):
            if isinstance(answer, BaseException):
                raise answer
        row = PairRow(
            id=new_ulid(),
            prompt_id=prompt.id,
            model_1=first,
            model_2=second,
            answer_1=one.text,  # type: ignore[union-attr] -- what is no answer was raised above
            answer_2=two.text,  # type: ignore[union-attr] -- what is no answer was raised above
        )
        await asyncio.to_thread(_store, database, row)
        stored[prompt.id] = (row.id, row.answer_1, row.answer_2)

    await steps.each(missing, ask, "answering")
    if not stored:
        reason = f" {steps.failures[0]}" if steps.failures else ""
        raise Unavailable(f"No prompt was answered by both {first} and {second}.{reason}")
    return [
        AnsweredPair(stored[prompt.id][0], prompt, *stored[prompt.id][1:]) for prompt in chosen if prompt.id in stored
    ]


def _stored(database: Database, models: tuple[str, str], prompt_ids: Sequence[str]) -> dict[str, tuple[str, str, str]]:
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
