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
        if chat_messages(stored.answer["output"]) is None:
            raise _other_item()
        request = {name: value for name, value in stored.request.items() if name not in ("input", "tools")}
        request["messages"] = self.messages(stored)
        if tools := chat_tools(stored.request.get("tools")):
            request["tools"] = tools
        return replace(stored, request=request, answer=chat_answer(stored))

    def shown(self, stored: StoredCompletion) -> StoredCompletion:
        """As `read`; what has no form in chat completions is returned unchanged."""
        try:
            return self.read(stored)
        except Invalid:
            return stored

    def messages(self, response: StoredCompletion) -> list[dict[str, Any]]:
        """The messages of a response's conversation, without its answer. Raises Invalid as `read`."""
        earlier = self._earlier(response.previous_id)
        messages = chat_messages([*earlier, *request_items(response.request.get("input"))])
        if messages is None:
            raise _other_item()
        self._remember(response.id, [*earlier, *turn_items(response)])
        instructions = response.request.get("instructions")
        return [{"role": "system", "content": instructions}, *messages] if instructions else messages

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


def _other_item() -> Invalid:
    return Invalid("an item that chat completions do not have")


def chat_answer(stored: StoredCompletion) -> dict[str, Any]:
    """The answer of a response as that of a chat completion: one message with the texts and calls of the output. Other
    items are left out.
    """
    items = [item for item in stored.answer["output"] if chat_messages([item]) is not None]
    messages = chat_messages(items) or []
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
