"""Folds system messages into user turns, for templates that support them only at the beginning, or not at all.

Training and serving fold in the same way, so that requests look like the training data.
"""

from collections.abc import Sequence
from typing import Any, Literal

from models.chat.messages import join_text_parts

Folding = Literal["none", "later", "all"]
"""Which system messages are put into user turns: none, those after the first message, or all."""

SYSTEM_ROLES = frozenset({"system", "developer"})
SEPARATOR = "\n\n"


def plan_folding(roles: Sequence[str], folding: Folding) -> list[tuple[int, ...]]:
    """The messages of the folded conversation, each as the positions of the messages that it joins.

    A system message is joined with the next user turn. If an assistant turn comes first, it is joined with the user
    turn before it, or becomes a user turn. Tool results stay directly after their calls.

    Args:
        roles: of the conversation's messages, in order.
    """
    if folding == "none":
        return [(position,) for position in range(len(roles))]
    turns: list[tuple[int, ...]] = []
    waiting: list[int] = []
    for position, role in enumerate(roles):
        if role in SYSTEM_ROLES and (position or folding == "all"):
            waiting.append(position)
        elif role == "user":
            turns.append((*waiting, position))
            waiting = []
        else:
            if role == "assistant":
                _place(turns, waiting, roles)
                waiting = []
            turns.append((position,))
    _place(turns, waiting, roles)
    return turns


def _place(turns: list[tuple[int, ...]], waiting: Sequence[int], roles: Sequence[str]) -> None:
    """Joins system messages without a following user turn with the previous one, or makes them a turn."""
    if not waiting:
        return
    before = turns[-1] if turns else (0,)
    is_folded = roles[before[-1]] in SYSTEM_ROLES and before != (0,)
    if turns and (roles[before[-1]] == "user" or is_folded):
        turns[-1] = (*before, *waiting)
    else:
        turns.append(tuple(waiting))


def fold_dicts(messages: list[Any], folding: Folding, text_type: str = "text") -> list[Any]:
    """Messages in the API's format, folded; the same list if there is nothing to fold.

    A list with a content that is neither text nor parts is not changed: the server refuses it.

    Args:
        text_type: the type of text parts, which has another name on /v1/responses.
    """
    roles = [_role(message) for message in messages]
    if SYSTEM_ROLES.isdisjoint(roles if folding == "all" else roles[1:]) or folding == "none":
        return messages
    folded = []
    for turn in plan_folding(roles, folding):
        if len(turn) == 1 and ((turn[0] == 0 and folding == "later") or roles[turn[0]] not in SYSTEM_ROLES):
            folded.append(messages[turn[0]])
            continue
        # Fields such as `name` are those of the user's message.
        user = next((messages[place] for place in turn if roles[place] == "user"), {})
        contents = [messages[place].get("content") for place in turn]
        if not all(content is None or isinstance(content, (str, list)) for content in contents):
            return messages
        folded.append({**user, "role": "user", "content": _join(contents, text_type)})
    return folded


def _role(message: Any) -> str:
    """A message's role. Calls and reasoning on /v1/responses have no role and belong to the assistant."""
    if not isinstance(message, dict):
        return ""
    kind = str(message.get("type"))
    made_by_model = kind == "reasoning" or kind.endswith("_call")
    return str(message.get("role") or ("assistant" if made_by_model else ""))


def _join(contents: list[Any], text_type: str) -> Any:
    """Joins contents: as one text, or as a list of parts if one of them has other parts than text."""
    texts = [join_text_parts(content) or "" for content in contents]
    if all(isinstance(text, str) for text in texts):
        return SEPARATOR.join(text for text in texts if text)
    parts = ([{"type": text_type, "text": text}] if isinstance(text, str) else text for text in texts if text)
    return [part for several in parts for part in several]
