"""Stored responses as chat completions, for whoever reads both: training data, runs of evals, the page."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from models.completions.response_items import chat_messages, chat_tools, request_items, turn_items
from models.completions.stored_completions import MAX_TURNS, StoredCompletion, StoredCompletions
from models.errors import Invalid, NotFound

_REMEMBERED = 256  # conversations whose items are kept in memory, because their next turn is often read soon


class ChatForms:
    """Turns stored responses into chat completions, with the turns that they continue as messages."""

    def __init__(self, completions: StoredCompletions) -> None:
        self._completions = completions
        self._items: OrderedDict[str, list[Any]] = OrderedDict()

    def read(self, stored: StoredCompletion) -> StoredCompletion:
        """A chat completion with the conversation of a response; a chat completion itself is returned unchanged.

        Raises:
            Invalid: an earlier turn was deleted, or an item has no form in chat completions. The message is a short
                phrase, such as "a deleted earlier turn".
        """
        if stored.kind != "response":
            return stored
        earlier = self._earlier(stored.previous_id)
        messages = chat_messages([*earlier, *request_items(stored.request.get("input"))])
        answer = chat_messages(stored.answer.get("output") or ())
        if messages is None or answer is None or any(message["role"] != "assistant" for message in answer):
            raise Invalid("an item that only responses have")
        self._remember(stored.id, [*earlier, *turn_items(stored)])
        if instructions := stored.request.get("instructions"):
            messages.insert(0, {"role": "system", "content": instructions})
        request = {name: value for name, value in stored.request.items() if name not in ("input", "tools")}
        request["messages"] = messages
        if tools := chat_tools(stored.request.get("tools")):
            request["tools"] = tools
        return replace(stored, request=request, answer=_chat_answer(stored, answer))

    def _earlier(self, response_id: str | None) -> list[Any]:
        """The items of a response and of those that it continues, oldest first."""
        if response_id is None:
            return []
        if response_id in self._items:
            self._items.move_to_end(response_id)
            return self._items[response_id]
        try:
            turns = list(self._completions.turns(response_id))
        except NotFound:
            turns = []
        if not turns or turns[-1].previous_id is not None or len(turns) >= MAX_TURNS:
            raise Invalid("a deleted earlier turn")
        return [item for turn in reversed(turns) for item in turn_items(turn)]

    def _remember(self, response_id: str, items: list[Any]) -> None:
        self._items[response_id] = items
        if len(self._items) > _REMEMBERED:
            self._items.popitem(last=False)


def _chat_answer(stored: StoredCompletion, messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer of a chat completion: its message joins the texts and calls of the output."""
    texts = [message["content"] for message in messages if isinstance(message.get("content"), str)]
    calls = [call for message in messages for call in message.get("tool_calls") or ()]
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    counts = stored.answer.get("usage")
    return {
        "id": stored.id,
        "object": "chat.completion",
        "created": int(stored.created.timestamp()),
        "model": stored.answer.get("model") or stored.model,
        "choices": [{"index": 0, "message": message, "finish_reason": _finish_reason(stored.answer, calls)}],
        "usage": _chat_usage(counts) if isinstance(counts, Mapping) else None,
    }


def _finish_reason(answer: Mapping[str, Any], calls: list[Any]) -> str:
    if answer.get("status") == "completed":
        return "tool_calls" if calls else "stop"
    details = answer.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, Mapping) else None
    return "content_filter" if reason == "content_filter" else "length"


def _chat_usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.get("input_tokens"),
        "completion_tokens": usage.get("output_tokens"),
        "total_tokens": usage.get("total_tokens"),
    }
