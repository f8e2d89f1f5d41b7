"""Answers that are part of a run's data, stored like a model's answers so that reports show them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from evals.tasks.answer_cache import AnswerCache, Outcome, parameters_hash
from evals.tasks.task import TaskSample
from models.chat.messages import Completion
from models.database import Database

_PARAMETERS = {"source": "jsonl"}


def store_given(database: Database, model: str, samples: Sequence[TaskSample]) -> list[Outcome]:
    """The outcome of each sample, from the answer in its metadata; an empty answer for rows with an item only."""
    cache = AnswerCache(database, parameters_hash(_PARAMETERS))
    keys = [_digest(sample.sample.metadata) for sample in samples]
    cache.read([model], keys)
    for key, sample in zip(keys, samples, strict=True):
        if (model, key) not in cache.outcomes:
            cache.add(model, key, given_completion(sample.sample.metadata.get("sample") or {}))
    cache.write(cache.take_pending())
    return [cache.outcomes[model, key] for key in keys]


def given_completion(sample: Mapping[str, Any]) -> Completion:
    """The answer in a row's `sample`: its output_text, or the message of its first choice or output."""
    text = sample.get("output_text")
    if not isinstance(text, str):
        text = _first_text(sample.get("choices"), "message") or _first_text(sample.get("output"), None) or ""
    calls = [call for call in sample.get("output_tools") or () if isinstance(call, dict)]
    usage = sample.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Completion(
        text=text,
        tool_calls=tuple(calls),
        seconds=_seconds(sample.get("latency_ms")),
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
        finish_reason=reason if isinstance(reason := sample.get("finish_reason"), str) and len(reason) <= 64 else None,
    )


def _seconds(milliseconds: Any) -> float:
    is_number = isinstance(milliseconds, int | float) and not isinstance(milliseconds, bool)
    return milliseconds / 1000 if is_number and 0 <= milliseconds < 1e9 else 0.0


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _first_text(entries: Any, field: str | None) -> str | None:
    entry = entries[0] if isinstance(entries, list) and entries else None
    message = entry.get(field) if field and isinstance(entry, dict) else entry
    text = message.get("content") if isinstance(message, dict) else None
    return text if isinstance(text, str) else None


def _digest(metadata: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()
