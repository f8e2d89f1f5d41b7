"""Ratings of answers: the conversation is stored once with its rating, which can be changed or removed."""

from typing import Any

import gradio as gr
import pytest

from models.completions.stored_completions import CompletionFilter, StoredCompletions
from models.database import Database
from models.settings.settings import Settings
from train.data.stored_rows import RowOptions
from train.data.stored_selection import RowCounts, training_rows
from ui.backend.context import PageContext
from ui.backend.ratings import RatedPlace, store_rating, thumbs

HISTORY = [
    {"role": "assistant", "content": "Hi! What can I do for you?"},
    {"role": "user", "content": [{"type": "text", "text": "Where is my order?"}]},
    {"role": "assistant", "content": "It is on its way."},
    {"role": "user", "content": "Thank you."},
]


def like(index: Any, liked: Any = True) -> gr.LikeData:
    return gr.LikeData(None, {"index": index, "value": "…", "liked": liked})


def liked_rows(database: Database) -> list[dict[str, Any]]:
    options = RowOptions(min_feedback={"rating": 0.5})
    return list(training_rows(database, CompletionFilter(), options, RowCounts()))


async def test_a_rated_answer_becomes_a_row_until_the_thumb_is_taken_back(
    settings: Settings, database: Database
) -> None:
    context = PageContext(settings, database)
    place = RatedPlace("bot", "support", "Be kind.", "a-browser")
    assert "for at most 30 days" in await store_rating(context, place, HISTORY, like(2))
    ((stored,), more) = StoredCompletions(database).page(CompletionFilter("support", {"page": "bot"}))
    assert not more
    assert stored.expires is not None
    assert [row["messages"] for row in liked_rows(database)] == [
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "Where is my order?"},
            {"role": "assistant", "content": "It is on its way."},
        ]
    ]
    await store_rating(context, place, HISTORY, like(2, liked=False))
    assert liked_rows(database) == []
    await store_rating(context, place, HISTORY, like(2))
    assert await store_rating(context, place, HISTORY, like(2, liked="")) == ""
    assert liked_rows(database) == []
    assert len(list(StoredCompletions(database).walk(CompletionFilter()))) == 1


@pytest.mark.parametrize("index", [0, 1, 3, 4, -1, None, [0, 1]])
async def test_only_answers_can_be_rated(settings: Settings, database: Database, index: Any) -> None:
    context = PageContext(settings, database)
    place = RatedPlace("chat", "support", None, "a-browser")
    assert await store_rating(context, place, HISTORY, like(index)) == ""
    assert list(StoredCompletions(database).walk(CompletionFilter())) == []


async def test_a_conversation_that_is_too_long_is_not_stored(settings: Settings, database: Database) -> None:
    context, place = PageContext(settings, database), RatedPlace("chat", "support", None, "a-browser")
    long = [{"role": "user", "content": "x" * 90_000}, {"role": "assistant", "content": "y"}] * 3
    assert "too long" in await store_rating(context, place, long, like(5))
    assert list(StoredCompletions(database).walk(CompletionFilter())) == []


def test_no_thumbs_where_nothing_may_be_stored(settings: Settings) -> None:
    assert thumbs(settings) == ("Like", "Dislike")
    assert thumbs(settings.model_copy(update={"store_completions": "never"})) is None
