"""Continues a stored response: the items of its conversation are put before those of the request.

Instructions and tools of earlier requests are not repeated, as at OpenAI. Reasoning is sent only to the model that it
comes from. A hosted model gets ids that are not stored here, because its upstream may know them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from models.completions.recorded import read_recorded
from models.completions.response_items import request_items, turn_items
from models.completions.stored_completions import MAX_TURNS, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid, NotFound
from models.http.payloads import run_in_thread
from models.keys import KeyInfo
from models.settings.settings import Settings
from serve.accounting.completion_log import CompletionLog
from serve.gateway.snapshot import Route
from serve.validation.field_limits import MAX_INPUTS

PREVIOUS = "previous_response_id"
_MAX_ID = 255
# A turn with one of these has messages that are stored elsewhere.
_ELSEWHERE = ("conversation", "prompt")


class StoredConversation(NamedTuple):
    """The turns of a stored conversation, oldest first: the model that answered, and the turn's items."""

    turns: list[tuple[str, list[Any]]]

    def items(self, route: Route) -> list[Any]:
        """The items as a model can read them."""
        return [
            item
            for model, items in self.turns
            for given in items
            if (item := _readable_item(given, route, own=model == route.spec.id)) is not None
        ]


class _Incomplete(Exception):
    """A part of the conversation is not stored here. `turn`: the one that continues it. `missing`: the id of the turn
    before it, or None if the part is no response.
    """

    def __init__(self, turn: StoredCompletion, missing: str | None) -> None:
        self.turn = turn
        self.missing = missing
        super().__init__(turn.id)


class ResponseChains:
    """Loads the conversations that requests continue."""

    def __init__(self, settings: Settings, database: Database, log: CompletionLog) -> None:
        self._limit = int(settings.max_body_mib * 2**20)
        self._completions = StoredCompletions(database)
        self._log = log

    async def load(self, response_id: Any, route: Route, key: KeyInfo | None) -> StoredConversation | None:
        """The conversation up to a response; None if a hosted model's upstream should look for the id.

        Raises:
            Invalid: there is no such response for this key, a turn before it was deleted, or the conversation is too
                long to send.
        """
        if not isinstance(response_id, str):
            raise Invalid(f"{PREVIOUS} must be the id of a response, a string.", param=PREVIOUS)
        if not self._log.stores_responses:
            if route.hosted:
                return None
            raise Invalid(
                "This server does not store responses (setting store_responses): send the whole conversation as input.",
                param=PREVIOUS,
                code="unsupported_parameter",
            )
        if len(response_id) > _MAX_ID or "\0" in response_id:
            raise _not_found(response_id)
        try:
            return await read_recorded(self._log.catch_up, self._read, response_id, key)
        except NotFound:
            # Another key's response is not passed on: the upstream's own key may read it there.
            if not route.hosted or await run_in_thread(self._exists, response_id):
                raise _not_found(response_id) from None
            return None
        except _Incomplete as error:
            turn, missing = error.turn, error.missing
            if route.hosted and turn.model == route.spec.id:
                return None
            if missing is None:
                raise Invalid(
                    f"The response {turn.id!r} continues a conversation that is not stored here: send the whole "
                    "conversation as input.",
                    param=PREVIOUS,
                ) from None
            raise Invalid(
                f"Previous response with id {missing[:80]!r} not found: {turn.id!r} continues it. It was deleted, so "
                "send the conversation as input.",
                param=PREVIOUS,
                code="previous_response_not_found",
            ) from None

    def check_size(self, size: int) -> None:
        """Raises Invalid if a request with its conversation has more bytes than a body may have."""
        if size > self._limit:
            raise _too_long(f"with the new input it has over {_limits(self._limit)}")

    def _read(self, response_id: str, key: KeyInfo | None) -> StoredConversation:
        turns: list[tuple[str, list[Any]]] = []
        count = size = 0
        oldest: StoredCompletion | None = None
        for turn in self._completions.turns(response_id, key):
            if any(turn.request.get(name) for name in _ELSEWHERE):
                raise _Incomplete(turn, None)
            items = turn_items(turn)
            turns.append((turn.model, items))
            count += len(items)
            size += len(orjson.dumps(items))
            if size > self._limit or count > MAX_INPUTS or len(turns) >= MAX_TURNS:
                raise _too_long(f"it has over {_limits(self._limit)}")
            oldest = turn
        if oldest is not None and oldest.previous_id is not None:
            raise _Incomplete(oldest, oldest.previous_id)
        return StoredConversation(turns[::-1])

    def _exists(self, response_id: str) -> bool:
        try:
            self._completions.get(response_id)
        except NotFound:
            return False
        return True


def continue_conversation(content: Mapping[str, Any], conversation: StoredConversation, route: Route) -> dict[str, Any]:
    """The request with a conversation before its own items, and without the id.

    Raises:
        Invalid: it has too many items, or an input that is neither a text nor a list.
    """
    given = content.get("input")
    if given is not None and not isinstance(given, (str, list)):
        raise Invalid("input must be a text or a list of items.", param="input")
    items = [*conversation.items(route), *request_items(given)]
    if len(items) > MAX_INPUTS:
        raise _too_long(f"with the new input it has over {MAX_INPUTS:,} items")
    return {name: value for name, value in content.items() if name != PREVIOUS} | {"input": items}


def _readable_item(item: Any, route: Route, *, own: bool) -> Any:
    """An item as a model can read it; None for reasoning that it cannot read. `own`: it comes from this model."""
    if not isinstance(item, dict):
        return item
    reasoning = item.get("type") == "reasoning"
    if reasoning and not (own and (item.get("encrypted_content") or item.get("content"))):
        return None
    content = item.get("content")
    if isinstance(content, list):
        item = item | {"content": [_without_logprobs(part) for part in content]}
    if route.hosted:
        # An upstream would look for the ids in a store of its own, and may refuse fields that it does not know.
        item = {name: value for name, value in item.items() if value is not None and (name != "id" or reasoning)}
    return item


def _without_logprobs(part: Any) -> Any:
    if isinstance(part, dict) and "logprobs" in part:
        return {name: value for name, value in part.items() if name != "logprobs"}
    return part


def _limits(size: int) -> str:
    return f"{size / 2**20:g} MiB, {MAX_INPUTS:,} items or {MAX_TURNS:,} turns"


def _not_found(response_id: str) -> Invalid:
    return Invalid(
        f"Previous response with id {response_id[:80]!r} not found.", param=PREVIOUS, code="previous_response_not_found"
    )


def _too_long(why: str) -> Invalid:
    return Invalid(
        f"This conversation is too long to continue: {why}. Start a new one with a summary of it.",
        param="input",
        code="context_length_exceeded",
    )
