"""Chatting with each SDK: whole, streamed, and the class of every error, by Parley as by OpenAI's fake."""

import pytest

from tests.clients.programs import Server, run

pytestmark = pytest.mark.engine


def test_a_chat_program_runs_unchanged(sdk: str, server: Server) -> None:
    met = run(sdk, "chat", server, server.chat)
    assert met["version"].split(".")[0] == {"openai-2": "2", "openai-3": "3", "node": "7"}[sdk]
    assert met["listed"]
    assert met["retrieved"] == server.chat
    assert met["answer"].strip()
    assert met["streamed"] == met["answer"]
    assert met["tokens"] == met["streamed tokens"] > 0
    assert met["caught"] == {
        "unknown model": "NotFoundError",
        "unknown model, retrieved": "NotFoundError",
        "no messages": "BadRequestError",
        "unknown file": "NotFoundError",
        "unknown job": "NotFoundError",
        "unknown purpose": "BadRequestError",
    }
