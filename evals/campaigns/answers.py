"""The answers of a campaign's models: prepared ones, recorded ones, and new ones for those that are missing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from evals.campaign_tables import CampaignRow, RecordedAnswerRow
from evals.tables import AnswerRow
from evals.tasks.answer_cache import AnswerCache, parameters_hash
from evals.tasks.task import prompt_hash
from evals.votes.prompts import Prompt
from models.chat.messages import Completer, Completion
from models.database import Database
from models.errors import Invalid, ParleyError, TooLarge

ANSWER_TOKENS = 512  # the longest answer in tokens, so that a verbose model does not keep a rater waiting
_log = logging.getLogger("parley.campaigns")


@dataclass(frozen=True)
class Failure:
    """A model that gave no answer. `on_prompt`: because of this prompt, so that others are not affected."""

    model: str
    reason: str
    on_prompt: bool


@dataclass(frozen=True)
class Answered:
    """The answers by model, and the models that failed."""

    completions: Mapping[str, Completion]
    failures: tuple[Failure, ...]


def answer_parameters(sample: int) -> dict[str, Any]:
    """The parameters of a request; each sample has its own, so that it is stored separately."""
    return {"max_tokens": ANSWER_TOKENS} | ({"seed": sample} if sample else {})


def stored_answers(
    session: Session, campaign: CampaignRow, prompt: Prompt, models: Sequence[str], sample: int
) -> dict[str, str]:
    """The prepared and recorded answers of these models; a model without an answer is left out."""
    answers: dict[str, str] = {}
    live = [model for model in models if model not in campaign.recordings]
    for model in models:
        if model in campaign.recordings:
            text = recorded_answer(session, campaign.recordings[model], prompt.id, sample)
            if text is not None:
                answers[model] = text
    if live:
        query = select(AnswerRow.model, AnswerRow.text).where(
            AnswerRow.model.in_(live),
            AnswerRow.prompt_hash == prompt_hash(prompt.messages),
            AnswerRow.parameters_hash == parameters_hash(answer_parameters(sample)),
        )
        answers |= {model: text for model, text in session.execute(query) if text.strip()}
    return answers


def recorded_answer(session: Session, recording_id: str, prompt_id: str, sample: int) -> str | None:
    """A recorded sample, or None. If the recording has fewer samples, they are used in turn."""
    query = (
        select(RecordedAnswerRow.text)
        .where(RecordedAnswerRow.recording_id == recording_id, RecordedAnswerRow.prompt_id == prompt_id)
        .where(RecordedAnswerRow.text.is_not(None), RecordedAnswerRow.text != "")
        .order_by(RecordedAnswerRow.sample)
    )
    texts = list(session.scalars(query))
    return texts[sample % len(texts)] if texts else None


async def ask_models(
    completer_for: Callable[[str], Completer], models: Sequence[str], prompt: Prompt, sample: int
) -> Answered:
    """Asks the models at once. Never raises a ParleyError: a failure is in the result, and its reason in the log."""

    async def ask(model: str) -> Completion | Failure:
        try:
            completion = await completer_for(model)(prompt.messages, **answer_parameters(sample))
        except (Invalid, TooLarge) as error:
            return Failure(model, str(error), on_prompt=True)
        except ParleyError as error:
            return Failure(model, str(error), on_prompt=False)
        if not completion.text.strip():
            return Failure(model, "it returned an empty answer", on_prompt=True)
        return completion

    results = await gathered([ask(model) for model in models])
    for result in results:
        if isinstance(result, Failure):
            _log.warning("%s did not answer: %s", result.model, result.reason)
    return Answered(
        {model: result for model, result in zip(models, results, strict=True) if isinstance(result, Completion)},
        tuple(result for result in results if isinstance(result, Failure)),
    )


async def gathered(requests: Sequence[Awaitable[Completion | Failure]]) -> list[Completion | Failure]:
    """The results in order. If the caller is cancelled, so are the requests."""
    tasks = [asyncio.ensure_future(request) for request in requests]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def store_answers(
    database: Database, prompt: Prompt, completions: Mapping[str, Completion], sample: int
) -> dict[str, str]:
    """Stores answers to be shared by every pair; returns the stored texts: an earlier answer stays if there is one."""
    cache = AnswerCache(database, parameters_hash(answer_parameters(sample)))
    key = prompt_hash(prompt.messages)
    for model, completion in completions.items():
        cache.add(model, key, completion)
    cache.write(cache.take_pending())
    return {model: answer.text for (model, _), outcome in cache.outcomes.items() if (answer := outcome.answer)}
