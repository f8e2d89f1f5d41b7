"""The Chat tab and a bot without a browser: a conversation that was left does not come back, silence is told."""

import asyncio
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from tests.ui.backend.test_streaming import Scripted
from ui.owners.chat import Chat, ChatView

REQUEST: Any = SimpleNamespace(session_hash="browser")


def chat_with(script: Scripted) -> Chat:
    with gr.Blocks():
        view = ChatView(*(gr.State() for _ in fields(ChatView)))  # pyrefly: ignore -- any component will do
    room: Any = SimpleNamespace(completer=lambda model: script)
    return Chat(room, view)


async def test_a_new_conversation_is_not_written_over_by_the_old_answer():
    chat = chat_with(Scripted("m", 1000, 0.01))
    after: list[dict[Any, Any]] = []
    left = False
    async for update in chat.send("?", [], "m", "", 0.7, 100, REQUEST):
        if left:
            after.append(update)
        if "word" in str(update.get(chat._view.chatbot, "")) and not left:
            assert (await chat.forget(REQUEST))[chat._view.chatbot] == []
            left = True
    assert left
    assert after == []


async def test_stop_keeps_what_has_come():
    chat = chat_with(Scripted("m", 1000, 0.01))
    updates = []
    async for update in chat.send("?", [], "m", "", 0.7, 100, REQUEST):
        updates.append(update)
        if len(updates) == 4:
            await chat.stop(REQUEST)
    assert "word" in updates[-1][chat._view.chatbot][-1]["content"]
    assert updates[-1][chat._view.line] == ""


@pytest.mark.parametrize("stopped", [False, True])
async def test_an_empty_answer_is_told_unless_it_was_stopped(stopped: bool):
    chat = chat_with(Scripted("m", 0 if not stopped else 1, 0 if not stopped else 5))
    if stopped:
        asyncio.get_running_loop().call_later(0.1, chat._stops.stop, "browser")
    last = [update async for update in chat.send("?", [], "m", "", 0.7, 100, REQUEST)][-1]
    assert ("m gave an empty answer" in last[chat._view.line]) is not stopped
    assert last[chat._view.chatbot][-1]["role"] == "user"
