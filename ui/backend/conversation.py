"""Converts conversations between Gradio's Chatbot format and the messages that models receive."""

from collections.abc import Sequence
from typing import Any

from models.chat.messages import Message

Turns = list[dict[str, Any]]

# A browser sends the whole conversation with each message; these bound what we accept.
_MAX_TURNS = 200
_MAX_CHARACTERS = 100_000


def plain_turns(history: Sequence[dict[str, Any]] | None) -> Turns:
    """The Chatbot's value as {"role", "content"} turns with text content; a long history loses its oldest turns."""
    turns = [
        {"role": str(turn["role"]), "content": _text(turn.get("content"))[:_MAX_CHARACTERS]}
        for turn in history or []
        if turn.get("role") in ("user", "assistant")
    ]
    return turns[-_MAX_TURNS:]


def to_messages(turns: Turns, system: str | None = "") -> list[Message]:
    """The messages for a model: the system prompt, if any, then the turns that are not empty."""
    opening = [Message(role="system", content=system.strip())] if system and system.strip() else []
    return opening + [Message(role=turn["role"], content=turn["content"]) for turn in turns if turn["content"]]


def without_last_answer(turns: Turns) -> Turns:
    """The turns up to and including the last user turn; empty if there is none."""
    last = max((index for index, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    return turns[: last + 1]


def edited_turns(history: Sequence[dict[str, Any]] | None, index: Any, text: Any) -> Turns:
    """The turns up to the edited one, with its new text; empty if it is not a user's turn or the text is empty."""
    turns, changed = plain_turns(history), _text(text).strip()[:_MAX_CHARACTERS]
    index = index - max(0, len(history or ()) - len(turns)) if isinstance(index, int) else None
    if index is None or not 0 <= index < len(turns) or turns[index]["role"] != "user" or not changed:
        return []
    return [*turns[:index], {"role": "user", "content": changed}]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    return str(content.get("text") or "") if isinstance(content, dict) else ""
