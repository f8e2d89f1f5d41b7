"""A recording in files: a JSONL file of its own, and a row of a campaign's bundle, where its hash is checked."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.campaign_tables import RecordedAnswerRow, RecordingRow
from evals.recordings.recording_store import Recording, answers_sha256, find_recording
from evals.tables import PromptRow
from models.atomic import atomic_write
from models.database import Database

# What the hash is over, in its order: see `recording_store.recording_sha256`.
_HASHED = ("model", "parameters", "samples", "prompts_hash")
_HASHED_ANSWER = ("sample", "text", "finish_reason", "logprobs")


def recording_rows(database: Database, recording: Recording) -> Iterator[dict[str, Any]]:
    """Each sample with its prompt; `error` instead of `text` where it failed."""
    answer = RecordedAnswerRow
    query = (
        select(answer, PromptRow)
        .join(PromptRow, PromptRow.id == answer.prompt_id)
        .where(answer.recording_id == recording.id)
        .order_by(PromptRow.id, answer.sample)
    )
    with database.read() as session:
        for row, prompt in session.execute(query):
            yield {
                "prompt_id": prompt.id,
                "prompt_sha256": prompt.digest,
                "messages": prompt.messages,
                "category": prompt.category,
                "held_out": prompt.held_out,
                "sample": row.sample,
                "text": row.text,
                "error": row.error,
                "finish_reason": row.finish_reason,
                "logprobs": row.logprobs,
                "prompt_tokens": row.prompt_tokens,
                "completion_tokens": row.completion_tokens,
                "seconds": row.seconds,
                "created": row.created.isoformat(),
            }


def bundle_row(database: Database, recording_id: str) -> dict[str, Any]:
    """A recording with all its answers as one row: what its hash is over, and the hash."""
    recording = find_recording(database, recording_id)
    with database.read() as session:
        row = session.get_one(RecordingRow, recording.id)
    about = {name: getattr(row, name) for name in _HASHED}
    names = ("prompt_sha256", *_HASHED_ANSWER)
    answers = [{name: answer[name] for name in names} for answer in recording_rows(database, recording)]
    return {"id": recording.id, **about, "created": row.created.isoformat(), "sha256": row.sha256, "answers": answers}


def is_unchanged(row: Mapping[str, Any]) -> bool:
    """Whether the answers in a row of `bundle_row` are those that its hash was made of."""
    answers = [tuple(answer[name] for name in ("prompt_sha256", *_HASHED_ANSWER)) for answer in row["answers"]]
    return answers_sha256([row[name] for name in _HASHED], answers) == row["sha256"]


def write_recording(database: Database, recording: Recording, path: Path) -> int:
    """Writes the file; returns the number of samples."""
    rows = list(recording_rows(database, recording))
    lines = [{"recording": recording.as_json()}, *rows]
    atomic_write(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    return len(rows)
