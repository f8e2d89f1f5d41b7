"""Rows of a run from stored chat completions: the messages are the item's `input`, the answer is the `sample`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from models.completions.stored_completions import CompletionFilter, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid

MAX_ROWS = 10_000
SOURCE = "stored_completions"
_LAST_SECOND = 253_402_300_799  # of the year 9999


def stored_rows(database: Database, source: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the completions that a source chooses, oldest first; the newest ones if there are more than `limit`.

    Raises:
        Invalid: it chooses none.
    """
    chosen = CompletionFilter(
        source.get("model"), source.get("metadata"), _time(source.get("created_after")),
        _time(source.get("created_before")),
    )  # fmt: skip
    limit = min(source.get("limit") or MAX_ROWS, MAX_ROWS)
    rows = [_row(completion) for completion in StoredCompletions(database).walk(chosen, order="desc", limit=limit)]
    if not rows:
        raise Invalid(
            "No stored completion matches this source: store completions with `store: true`, or change the filter.",
            param="data_source.source",
        )
    return rows[::-1]


def _row(completion: StoredCompletion) -> dict[str, Any]:
    answer, choice = completion.answer, completion.answer["choices"][0]
    item = {"id": completion.id, "model": completion.model, "input": completion.request.get("messages") or []}
    if completion.request.get("tools"):
        item["tools"] = completion.request["tools"]
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
