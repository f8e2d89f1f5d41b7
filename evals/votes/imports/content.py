"""Texts and messages from cells: plain text, content parts, JSON, Python literals."""

import ast
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evals.votes.imports.rows import RowError


def text_of(content: Any) -> str:
    """The text of a message's content: a text, a part, or a list of parts; "[image]" for a part that is not text."""
    match content:
        case None:
            return ""
        case str():
            return content
        case Mapping():
            for name in ("text", "content", "value"):
                if content.get(name) is not None:
                    return text_of(content[name])
            if isinstance(parts := content.get("parts"), list):
                return text_of(parts)
            return f"[{str(content.get('type') or 'object').removesuffix('_url')}]"
        case list() | tuple():
            return "\n".join(text for part in content if (text := text_of(part)))
        case _:
            return str(content)


def decoded(cell: Any) -> Any:
    """A list or an object from JSON or from a Python literal; anything else unchanged.

    Raises:
        RowError: it begins like a list of messages and is neither.
    """
    if not isinstance(cell, str) or not cell.lstrip().startswith(("[", "{")):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RowError("its messages are neither JSON nor a Python list: export them as JSON") from error


def parse_messages(given: Any) -> tuple[dict[str, str], ...]:
    """A conversation that ends with the user's turn, from a list of messages or its JSON; () if there is none."""
    if isinstance(given, str):
        given = decoded(given) if given.strip() else None
    if not given:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise RowError("its messages are not a list")
    try:
        messages = tuple({"role": str(one["role"]), "content": _content(one["content"])} for one in given)
    except (TypeError, KeyError) as error:
        raise RowError("a message needs a role and a text") from error
    if messages[-1]["role"] != "user":
        raise RowError("its messages must be texts, the user's last")
    return messages


def is_conversation(value: Any) -> bool:
    """Whether this is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) and "role" in one for one in value)


def _content(content: Any) -> str:
    if content is None or not isinstance(content, str | list | Mapping):
        raise RowError("its messages must be texts, the user's last")
    return text_of(content)
