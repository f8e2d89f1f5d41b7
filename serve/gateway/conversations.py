"""Which conversation a request continues, so that the replica that has its prefix cached can answer.

A conversation is recognised by its messages: a client repeats those of its last request and adds to them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

_LIMIT = 16_384  # conversations in memory
_PREFIXES = 32  # earlier states of a conversation to look for


class Conversation(NamedTuple):
    """Hashes of a request's conversation: of its present state, and of its earlier states, the latest first."""

    now: int
    before: tuple[int, ...]


def find_conversation(model_id: str, content: Mapping[str, Any]) -> Conversation | None:
    """The conversation of a request; None if it has neither messages nor a `prompt_cache_key`."""
    key = content.get("prompt_cache_key")
    if isinstance(key, str) and key:
        value = hash((model_id, key))
        return Conversation(value, (value,))
    messages = content.get("messages") or content.get("input")
    if type(messages) is not list or not messages:
        return None
    # Where the system message is not one of the messages.
    value = hash((model_id, orjson.dumps((content.get("system"), content.get("instructions")))))
    hashes = [value := hash((value, orjson.dumps(message))) for message in messages]
    return Conversation(hashes[-1], tuple(hashes[-2 : -2 - _PREFIXES : -1]))


class ConversationReplicas:
    """The address of the replica that last answered each conversation. Beyond a limit, the oldest are dropped."""

    def __init__(self) -> None:
        self._addresses: dict[int, str] = {}

    def find(self, conversation: Conversation) -> str | None:
        """The address of the replica that answered the conversation's last request."""
        known = self._addresses
        return next((known[value] for value in conversation.before if value in known), None)

    def remember(self, conversation: Conversation, address: str) -> None:
        """Stores which replica answers the conversation now."""
        self._addresses.pop(conversation.now, None)
        self._addresses[conversation.now] = address
        if len(self._addresses) > _LIMIT:
            del self._addresses[next(iter(self._addresses))]
