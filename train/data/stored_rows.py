"""Training rows from stored chat completions and responses, and the feedback on them: conversations, or preference
pairs.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.chat.personal_data import mask_values
from models.completions.chat_forms import ChatForms
from models.completions.feedback import StoredFeedback, list_feedback
from models.completions.stored_completions import StoredCompletion
from models.database import Database
from models.errors import Invalid

_PAGE = 1000
# The finish reasons of answers that are not truncated.
_WHOLE = ("stop", "tool_calls", "function_call")
_MESSAGE_FIELDS = ("role", "content", "tool_calls")


@dataclass(frozen=True)
class RowOptions:
    """Which completions become rows, and how.

    `min_feedback`: name of the feedback → minimum of the mean of its values (true is 1, false 0). `pairs`: preference
    pairs from corrections instead of conversations. `mask`: replace personal data and secrets with placeholders.
    `limit`: the maximum number of rows.
    """

    min_feedback: Mapping[str, float] = field(default_factory=dict)
    pairs: bool = False
    mask: bool = False
    limit: int | None = None


@dataclass
class RowCounts:
    """Counts of completions and rows. `left_out`: reason → how many. `masked`: how many values were replaced."""

    read: int = 0
    rows: int = 0
    corrected: int = 0
    masked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def read_feedback(database: Database) -> dict[str, list[StoredFeedback]]:
    """All feedback by the id that it refers to, oldest first."""
    by_answer: dict[str, list[StoredFeedback]] = {}
    after, has_more = None, True
    while has_more:
        page, has_more = list_feedback(database, after=after, limit=_PAGE)
        for stored in page:
            by_answer.setdefault(stored.feedback.answer_id, []).append(stored)
        after = page[-1].id if page else None
    return by_answer


def training_rows(
    completions: Iterable[StoredCompletion],
    feedback: Mapping[str, Sequence[StoredFeedback]],
    options: RowOptions,
    counts: RowCounts,
    forms: ChatForms | None = None,
) -> Iterator[dict[str, Any]]:
    """The rows, each once; `counts` is updated. A correction replaces the answer; the newest one counts. A response
    becomes a row with the turns that it continues, which `forms` reads; without `forms`, responses are left out.
    """
    seen: set[str] = set()
    for completion in completions:
        if options.limit is not None and counts.rows >= options.limit:
            return
        counts.read += 1
        entries = [*feedback.get(completion.id, ()), *feedback.get(completion.request_id, ())]
        entries.sort(key=lambda stored: stored.created)
        if forms is not None:
            try:
                completion = forms.read(completion)
            except Invalid as error:
                counts.left_out[error.message] += 1
                continue
        row, reason = _row(completion, entries, options)
        if row is None:
            counts.left_out[reason] += 1
            continue
        if options.mask:
            row, masked = mask_values(row)
            counts.masked += masked
        digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
        if digest in seen:
            counts.left_out["a duplicate row"] += 1
            continue
        seen.add(digest)
        counts.rows += 1
        counts.corrected += _correction(entries) is not None
        yield row


def _row(
    completion: StoredCompletion, entries: Sequence[StoredFeedback], options: RowOptions
) -> tuple[dict[str, Any] | None, str]:
    """A row, or None and why there is none."""
    if "choices" not in completion.answer:
        return None, "a response"
    messages = completion.request.get("messages")
    choice = completion.answer["choices"][0]
    answer = {name: choice["message"][name] for name in _MESSAGE_FIELDS if choice["message"].get(name) is not None}
    correction = _correction(entries)
    for name, least in options.min_feedback.items():
        mean = _mean(entries, name)
        if mean is None or mean < least:
            return None, f"no {name} of at least {least:g}"
    if not isinstance(messages, list) or not messages:
        return None, "no messages"
    tools = {"tools": completion.request["tools"]} if completion.request.get("tools") else {}
    if options.pairs:
        if correction is None:
            return None, "no correction"
        if correction == answer.get("content"):
            return None, "a correction that changes nothing"
        preferred = {"role": "assistant", "content": correction}
        prompt = {"messages": messages, **tools}
        return {"input": prompt, "preferred_output": [preferred], "non_preferred_output": [answer]}, ""
    if correction is not None:
        return {"messages": [*messages, {"role": "assistant", "content": correction}], **tools}, ""
    if choice.get("finish_reason") not in _WHOLE:
        return None, "a truncated answer"
    if not answer.get("content") and not answer.get("tool_calls"):
        return None, "an empty answer"
    return {"messages": [*messages, answer], **tools}, ""


def _correction(entries: Sequence[StoredFeedback]) -> str | None:
    return next((each.feedback.correction for each in reversed(entries) if each.feedback.correction), None)


def _mean(entries: Sequence[StoredFeedback], name: str) -> float | None:
    """The mean of the feedback with a name; from each source with an id, only the newest value counts."""
    newest = {
        feedback.source_id or stored.id: feedback.value
        for stored in entries
        if (feedback := stored.feedback).name == name
    }
    numbers = [float(value) for value in newest.values() if isinstance(value, bool | int | float)]
    return sum(numbers) / len(numbers) if numbers else None
