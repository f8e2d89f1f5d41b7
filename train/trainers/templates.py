"""A tokenizer's chat template: messages as an engine passes them, the end of a turn, support of system messages."""

from collections.abc import Mapping
from typing import Any

from models.chat.system_messages import Folding
from models.chat_templates.content_parts import takes_parts
from models.chat_templates.system_role import has_system_role
from models.chat_templates.turn_ends import TurnEnd, find_turn_end
from train.data.conversations import Problem
from train.request import TrainingRequest


def engine_messages(messages: list[dict[str, Any]], tokenizer: Any, tools: Any = None) -> list[dict[str, Any]]:
    """Messages as vLLM passes them to the template: each content as one text, or as a list of parts.

    Args:
        messages: their contents are texts or lists of text parts.
    """
    in_parts = takes_parts(tokenizer.get_chat_template(tools=tools))
    return [message | {"content": _content(message, in_parts)} for message in messages]


def _content(message: Mapping[str, Any], in_parts: bool) -> Any:
    content = message.get("content") or ""
    if not in_parts or message["role"] == "tool":  # vLLM gives a tool's result as one text to every template
        return content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    if isinstance(content, str):
        # In the API, a message with tool calls has no content.
        return [] if message.get("tool_calls") and not content else [{"type": "text", "text": content}]
    return content


def turn_end(tokenizer: Any) -> TurnEnd:
    """How the tokenizer's template ends the assistant's turn; an empty `TurnEnd` without a template."""
    if not tokenizer.chat_template:
        return TurnEnd("", None)
    template = tokenizer.get_chat_template()
    return find_turn_end(template, tokenizer.special_tokens_map, tokenizer.get_added_vocab())


def turn_end_problem(tokenizer: Any) -> Problem | None:
    """A warning if no engine can stop where the template ends a turn."""
    end = turn_end(tokenizer)
    if not end.unknown:
        return None
    message = f"the chat template ends an answer with {end.text[:40]!r}, which is not a single token of this base"
    mend = (
        "engines cannot stop there: use a template that ends with the base's end token, such as --chat-template plain"
    )
    return Problem(0, "warning", message, mend, "turn-end")


def folding_of(request: TrainingRequest, tokenizer: Any) -> Folding:
    """Which system messages the request folds with this tokenizer's template."""
    if request.columns is None or not request.columns.fold_system:
        return "none"
    template = tokenizer.chat_template and tokenizer.get_chat_template()
    return "later" if not template or has_system_role(template, tokenizer.special_tokens_map) else "all"
