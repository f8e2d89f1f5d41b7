"""The Chat tab without a browser: an old answer does not reach a new conversation, an empty answer is reported."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.ui.backend.test_streaming import Scripted
from tests.ui.conftest import filled, stand_in
from ui.owners.chat import ChatTab, ChatView

REQUEST: Any = SimpleNamespace(session_hash="browser")


def chat_with(script: Scripted) -> ChatTab:
    context: Any = SimpleNamespace(completer=lambda model: script)
    return ChatTab(context, stand_in(ChatView))


def form(chat: ChatTab, **changes: Any) -> dict[Any, Any]:
    """The tab's fields with the default settings."""
    values = {"text": "?", "chatbot": [], "model": "m", "system": "", "temperature": 0.7, "max_tokens": 100}
    return filled(chat._view, **values | changes)


def send(chat: ChatTab, **changes: Any) -> AsyncIterator[dict[Any, Any]]:
    """Sends a message."""
    return chat.send(form(chat, **changes), REQUEST)


@pytest.mark.long
async def test_an_old_answer_does_not_reach_a_new_conversation():
    chat = chat_with(Scripted("m", 1000, 0.01))
    after: list[dict[Any, Any]] = []
    left = False
    async for update in send(chat):
        if left:
            after.append(update)
        if "word" in str(update.get(chat._view.chatbot, "")) and not left:
            assert (await chat.clear(REQUEST))[chat._view.chatbot] == []
            left = True
    assert left
    assert after == []


@pytest.mark.long
async def test_stop_keeps_the_text_so_far():
    chat = chat_with(Scripted("m", 1000, 0.01))
    updates = []
    async for update in send(chat):
        updates.append(update)
        if len(updates) == 4:
            await chat.stop(REQUEST)
    assert "word" in updates[-1][chat._view.chatbot][-1]["content"]
    assert updates[-1][chat._view.line] == ""


@pytest.mark.long
@pytest.mark.parametrize("stopped", [False, True])
async def test_an_empty_answer_is_reported_unless_it_was_stopped(stopped: bool):
    chat = chat_with(Scripted("m", 0 if not stopped else 1, 0 if not stopped else 5))
    if stopped:
        asyncio.get_running_loop().call_later(0.1, chat._signals.stop, "browser")
    last = [update async for update in send(chat)][-1]
    assert ("m returned an empty answer" in last[chat._view.line]) is not stopped
    assert last[chat._view.chatbot][-1]["role"] == "user"


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 7}, "Temperature: use a number from 0 to 2, not 7."),
        ({"temperature": None}, "Temperature: use a number from 0 to 2."),
        ({"max_tokens": 0}, "Maximum answer length: use a whole number from 1 to 32,768, not 0."),
        ({"max_tokens": 1.5}, "use a whole number"),
    ],
)
async def test_a_number_out_of_range_is_refused_and_not_changed(changes: dict[str, Any], message: str):
    chat = chat_with(Scripted("m", 1, 0))
    (update,) = [update async for update in send(chat, **changes)]
    assert message in update[chat._view.line]


@pytest.mark.long
async def test_an_edited_message_is_sent_without_what_followed_it():
    chat = chat_with(Scripted("m", 2, 0))
    turns = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    change: Any = SimpleNamespace(index=0, value=" better ")
    last = [update async for update in chat.edit(form(chat, chatbot=turns), change, REQUEST)][-1]
    shown = last[chat._view.chatbot]
    assert [turn["role"] for turn in shown] == ["user", "assistant"]
    assert shown[0]["content"] == "better"
    assert "to first token" in last[chat._view.figures]
    for index, value in ((1, "an answer"), (9, "x"), (0, "  ")):
        change = SimpleNamespace(index=index, value=value)
        (nothing,) = [update async for update in chat.edit(form(chat, chatbot=turns), change, REQUEST)]
        assert chat._view.chatbot not in nothing
