"""Stored chat completions with their feedback, each as a training row or with the reason why there is none."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from models.chat.personal_data import mask_values
from models.completions.chat_forms import ChatForms
from models.completions.feedback import StoredFeedback, feedback_on
from models.completions.stored_completions import CompletionFilter, StoredCompletion, StoredCompletions
from models.database import Database
from models.errors import Invalid
from models.likeness import ALIKE, LikenessIndex, fingerprint
from train.data.stored_rows import RowOptions, correction, counted_feedback, row_of

_BATCH = 200  # with the ids of the answers and of the requests, far below the databases' limits for one query


@dataclass
class RowCounts:
    """Counts of completions and rows. `left_out`: reason → how many. `masked`: how many values were replaced."""

    read: int = 0
    rows: int = 0
    corrected: int = 0
    masked: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class SelectedAnswer:
    """A stored completion with its feedback, oldest first. `row` is None if it is left out, for a `reason`."""

    completion: StoredCompletion
    feedback: Sequence[StoredFeedback]
    row: dict[str, Any] | None
    reason: str = ""


def training_rows(
    database: Database, chosen: CompletionFilter, options: RowOptions, counts: RowCounts
) -> Iterator[dict[str, Any]]:
    """The rows, each once; `counts` is updated. A correction replaces the answer; the newest one counts."""
    return (each.row for each in select_answers(database, chosen, options, counts) if each.row is not None)


def select_answers(
    database: Database, chosen: CompletionFilter, options: RowOptions, counts: RowCounts
) -> Iterator[SelectedAnswer]:
    """Every completion that the filter chooses, oldest first, with its row; `counts` is updated.

    Ends after `options.limit` rows. Only duplicates need memory: 65 bytes a row, and some 5 kB if near duplicates are
    left out.
    """
    seen: set[bytes] = set()
    index = LikenessIndex(ALIKE) if options.near_duplicates else None
    stored = StoredCompletions(database)
    forms = ChatForms(stored)
    for completion, entries in with_feedback(database, stored.walk(chosen)):
        if options.limit is not None and counts.rows >= options.limit:
            return
        counts.read += 1
        row: dict[str, Any] | None = None
        try:
            completion = forms.read(completion)
            row, reason = row_of(completion, entries, options)
        except Invalid as error:
            reason = error.message
        replaced = 0
        if row is not None and options.mask:
            row, replaced = mask_values(row)
        if row is not None and (reason := _duplicate(row, seen, index)):
            row = None
        if row is None:
            counts.left_out[reason] += 1
        else:
            counts.rows += 1
            counts.masked += replaced
            counts.corrected += options.kind != "prompts" and correction(counted_feedback(entries, options)) is not None
        yield SelectedAnswer(completion, entries, row, reason)


def no_rows_message(counts: RowCounts) -> str:
    """Why there is no row, and what to do."""
    reasons = "".join(f" {count} left out: {reason}." for reason, count in counts.left_out.most_common())
    return (
        f"None of {counts.read} stored completions can become a row: change the filters, or store completions with "
        f"`store: true`.{reasons}"
    )


def with_feedback(
    database: Database, completions: Iterator[StoredCompletion]
) -> Iterator[tuple[StoredCompletion, list[StoredFeedback]]]:
    """Completions with all feedback on them, oldest first. Feedback may name the answer or its request."""
    while batch := list(islice(completions, _BATCH)):
        named = feedback_on(database, [name for each in batch for name in (each.id, each.request_id) if name])
        for completion in batch:
            entries = [*named.get(completion.id, ()), *named.get(completion.request_id, ())]
            yield completion, sorted(entries, key=lambda stored: stored.created)


def _duplicate(row: Mapping[str, Any], seen: set[bytes], index: LikenessIndex | None) -> str:
    """Why a row is left out as a copy of an earlier one; empty if it is none, and it is remembered then."""
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest()
    if digest in seen:
        return "a duplicate row"
    if index is not None:
        text = fingerprint(_compared_text(row))
        if text.words and (index.copy(text) is not None or next(index.near(text), None) is not None):
            return "a near duplicate"
        index.add(len(seen), text)
    seen.add(digest)
    return ""


def _compared_text(row: Mapping[str, Any]) -> str:
    """The texts of a row without system messages: long common instructions would make all rows alike."""
    prompt = row["input"]["messages"] if "input" in row else row["messages"]
    messages = [*prompt, *row.get("preferred_output", ()), *row.get("non_preferred_output", ())]
    return "\n".join(
        text if isinstance(text := message.get("content") or message.get("tool_calls"), str) else json.dumps(text)
        for message in messages
        if isinstance(message, dict) and message.get("role") not in ("system", "developer")
    )
