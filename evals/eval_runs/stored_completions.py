"""Rows of a run from stored chat completions or responses: the messages are the item's `input`, the answer is the
`sample`. The `input` of a response has the turns that it continues too; it is empty if one of them was deleted.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from models.completions.chat_forms import ChatForms, chat_answer
from models.completions.response_items import chat_tools
from models.completions.stored_completions import CompletionFilter, Kind, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid

MAX_ROWS = 10_000
# Types of sources → the kind of what they choose.
KINDS: Mapping[str, Kind] = {"stored_completions": "completion", "responses": "response"}
_LAST_SECOND = 253_402_300_799  # of the year 9999


def stored_rows(database: Database, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of what a source chooses, oldest first; the newest ones if there are more than `limit`.

    Raises:
        Invalid: it chooses nothing.
    """
    kind = KINDS[source["type"]]
    chosen = CompletionFilter(
        source.get("model"), source.get("metadata"), _time(source.get("created_after")),
        _time(source.get("created_before")), kind=kind,
    )  # fmt: skip
    limit = min(source.get("limit") or MAX_ROWS, MAX_ROWS)
    stored = StoredCompletions(database)
    found = list(islice((each for each in stored.walk(chosen, order="desc") if _matches(each, source)), limit))
    if not found:
        advice = "store completions with `store: true`" if kind == "completion" else "store responses"
        raise Invalid(
            f"No stored {kind} matches this source: {advice}, or change the filter.", param="data_source.source"
        )
    forms = ChatForms(stored)
    # Oldest first, so that each turn finds the ones before it in memory.
    return [_row(each, forms) for each in reversed(found)]


def _matches(stored: StoredCompletion, source: Mapping[str, Any]) -> bool:
    """Whether a response has what the source names beside the fields of `CompletionFilter`."""
    if stored.kind != "response":
        return True
    request = stored.request
    reasoning = request.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else None
    wanted = {"temperature": request.get("temperature"), "top_p": request.get("top_p"), "reasoning_effort": effort}
    if any(source.get(name) is not None and source[name] != value for name, value in wanted.items()):
        return False
    if (text := source.get("instructions_search")) and text.lower() not in str(request.get("instructions")).lower():
        return False
    if (users := source.get("users")) and request.get("user") not in users:
        return False
    names = {tool.get("name") or tool.get("type") for tool in request.get("tools") or () if isinstance(tool, Mapping)}
    return names.issuperset(source.get("tools") or ())


def _row(completion: StoredCompletion, forms: ChatForms) -> dict[str, Any]:
    answer, messages = completion.answer, completion.request.get("messages")
    tools = completion.request.get("tools")
    if completion.kind == "response":
        answer, tools = chat_answer(completion), chat_tools(tools)
        try:
            messages = forms.messages(completion)
        except Invalid:
            messages = None  # the stored answer can be graded without them
    choice = answer["choices"][0]
    item = {"id": completion.id, "model": completion.model, "input": messages or []}
    if tools:
        item["tools"] = tools
    sample = {
        "output_text": choice["message"].get("content") or "",
        "output_tools": choice["message"].get("tool_calls") or [],
        "choices": answer["choices"],
        "finish_reason": choice.get("finish_reason"),
        "model": completion.model,
        "usage": answer.get("usage"),
    }
    return {"item": item | {"metadata": dict(completion.metadata)}, "sample": sample}


def _time(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(min(seconds, _LAST_SECOND), UTC) if seconds is not None else None
