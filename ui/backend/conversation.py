"""A conversation as Gradio's Chatbot holds it, and as models are sent it. Nothing of layout."""

from collections.abc import Sequence
from typing import Any

from models.messages import Message

Turns = list[dict[str, Any]]

# A browser sends the whole conversation with each message; this bounds what we take from it.
_MOST_TURNS = 200
_MOST_LETTERS = 100_000


def turns(history: Sequence[dict[str, Any]] | None) -> Turns:
    """The Chatbot's value as plain turns {"role", "content"} with text alone; the oldest go where it is too long."""
    plain = [
        {"role": str(turn["role"]), "content": _text(turn.get("content"))[:_MOST_LETTERS]}
        for turn in history or []
        if turn.get("role") in ("user", "assistant")
    ]
    return plain[-_MOST_TURNS:]


def messages(plain: Turns, system: str | None = "") -> list[Message]:
    """What a model is sent: the system prompt where there is one, then the turns; empty answers are left out."""
    opening = [Message(role="system", content=system.strip())] if system and system.strip() else []
    return opening + [Message(role=turn["role"], content=turn["content"]) for turn in plain if turn["content"]]


def without_last_answer(plain: Turns) -> Turns:
    """The turns up to and with the last question; empty where nothing was asked."""
    last = max((index for index, turn in enumerate(plain) if turn["role"] == "user"), default=-1)
    return plain[: last + 1]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    return str(content.get("text") or "") if isinstance(content, dict) else ""
