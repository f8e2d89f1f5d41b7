"""Ratings of answers by thumbs: the conversation is stored as a chat completion, and the rating as feedback on it."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import gradio as gr

from models.completions.feedback import Feedback, add_feedback
from models.completions.masking import mask_completion
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import utcnow
from models.settings.settings import Settings
from ui.backend.context import PageContext
from ui.backend.conversation import plain_turns, to_messages
from ui.look.markup import notice

RATING = "rating"
# Gradio shows thumb icons for these two names.
THUMBS = ("Like", "Dislike")
_MAX_CHARACTERS = 200_000
_STORED = "Thank you. Your rating was stored with this conversation, for at most {} days."
_STORED_FOR_EVER = "Thank you. Your rating was stored with this conversation."


@dataclass(frozen=True)
class RatedPlace:
    """Where an answer was rated: on which page, with which model and system prompt, in which browser session."""

    page: Literal["chat", "bot"]
    model: str
    system: str | None
    session: str


def thumbs(settings: Settings) -> tuple[str, str] | None:
    """The thumbs of a conversation; None if nothing may be stored."""
    return THUMBS if settings.store_completions != "never" else None


async def store_rating(
    context: PageContext, place: RatedPlace, history: Sequence[dict[str, Any]] | None, given: gr.LikeData
) -> str:
    """Stores a rating, or its removal. Returns a line for the page, empty if this turn cannot be rated."""
    turns = plain_turns(history)
    index = given.index - max(0, len(history or ()) - len(turns)) if isinstance(given.index, int) else -1
    before = turns[:index] if 0 <= index < len(turns) else []
    # A bot's greeting comes before the first question. It is from the page, not from the model.
    if before and before[0]["role"] == "assistant":
        before = before[1:]
    if not before or before[-1]["role"] != "user" or turns[index]["role"] != "assistant":
        return ""
    messages, answer = to_messages(before, place.system), turns[index]["content"]
    if sum(len(message.content) for message in messages) + len(answer) > _MAX_CHARACTERS:
        return notice("Your rating was not stored: this conversation is too long.", "warn")
    request = {"model": place.model, "messages": [message.model_dump() for message in messages]}
    value = given.liked if isinstance(given.liked, bool) else None
    await asyncio.to_thread(_store, context, place, request, answer, value)
    if value is None:
        return ""
    days = context.settings.completion_retention_days
    return notice(_STORED.format(days) if days else _STORED_FOR_EVER, "good")


def _store(context: PageContext, place: RatedPlace, request: dict[str, Any], answer: str, value: bool | None) -> None:
    named = json.dumps([place.session, request, answer], sort_keys=True).encode()
    completion_id = f"rated-{hashlib.sha256(named).hexdigest()[:32]}"
    now, days = utcnow(), context.settings.completion_retention_days
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    completion = {
        "id": completion_id, "object": "chat.completion", "created": int(now.timestamp()), "model": place.model,
        "choices": [choice],
    }  # fmt: skip
    stored = StoredCompletion(
        completion_id, now, place.model, "", "", request, completion, {"page": place.page},
        now + timedelta(days=days) if days else None,
    )  # fmt: skip
    StoredCompletions(context.database).add([mask_completion(stored) if context.settings.store_masked else stored])
    source = hashlib.sha256(place.session.encode()).hexdigest()[:16]
    add_feedback(context.database, Feedback(completion_id, RATING, value, source_id=f"{place.page}-{source}"))
