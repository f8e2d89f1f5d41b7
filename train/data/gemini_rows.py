"""Rows in Google's format for tuning Gemini: `{"contents": [{"role", "parts": [{"text"}]}], "systemInstruction"?}`.

A part with `"thought": true` is reasoning.
"""

from collections.abc import Mapping
from typing import Any

from train.data.openai_rows import Items, conversation_items, read_messages
from train.data.row_fields import text_parts

_SYSTEM = ("systemInstruction", "system_instruction")


def is_gemini(row: Mapping[str, Any]) -> bool:
    """Whether a row has contents made of parts."""
    contents = row.get("contents")
    return isinstance(contents, list) and all(isinstance(turn, Mapping) and "parts" in turn for turn in contents)


def gemini_row(line: int, row: Mapping[str, Any]) -> Items:
    """The conversation of a row. Parts that are not text are refused.

    Raises:
        RowError: the row cannot be read.
    """
    contents = row.get("contents")
    turns = contents if isinstance(contents, list) else []
    messages: list[Any] = [_message(turn, "user") if isinstance(turn, Mapping) else turn for turn in turns]
    name = next((name for name in _SYSTEM if row.get(name)), None)
    if name:
        given = row[name]
        messages.insert(0, _message(given if isinstance(given, Mapping) else {"parts": given}, "system"))
    yield from conversation_items(line, row, read_messages(messages), "contents", *_SYSTEM)


def _message(turn: Mapping[str, Any], role: str) -> dict[str, Any]:
    message = {key: value for key, value in turn.items() if key not in ("role", "parts")}
    message["role"] = turn.get("role") or role if role != "system" else role
    parts = turn.get("parts")
    if isinstance(parts, list):
        thoughts = [part for part in parts if isinstance(part, Mapping) and part.get("thought")]
        if thoughts:
            message["reasoning_content"] = "\n".join(text_parts(thoughts))
            parts = [part for part in parts if part not in thoughts]
    return message | {"content": parts}
