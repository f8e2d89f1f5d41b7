"""A recording as a JSONL file: one line about the recording, then one line for each sample."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import select

from evals.campaign_tables import RecordedAnswerRow
from evals.recordings.recording_store import Recording
from evals.tables import PromptRow
from models.database import Database
from models.errors import Invalid, NoSpace
from models.files.atomic import atomic_write


def recording_rows(database: Database, recording: Recording) -> Iterator[dict[str, Any]]:
    """Each sample with its prompt; a failed sample has `error` instead of `text`."""
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


def write_recording(database: Database, recording: Recording, path: Path) -> int:
    """Writes the file; returns the number of samples.

    Raises:
        Invalid: it cannot be written.
        NoSpace: the disk is full.
    """
    rows = list(recording_rows(database, recording))
    lines = [{"recording": recording.to_json()}, *rows]
    try:
        atomic_write(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    except NoSpace:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}.", param="file") from error
    return len(rows)
