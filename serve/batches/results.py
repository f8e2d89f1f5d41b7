"""The output lines of a batch, and the files that its results become. They appear together with its last status."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from models.database import new_ulid
from models.files.atomic import IncomingFile
from models.files.stored_files import BATCH_RESULTS, Files
from models.tables import FileRow
from serve.batches.input_file import BatchRequest
from serve.batches.row_requests import RowAnswer
from serve.bulk.journal import Journal, dumped

_CODES = {
    "cancelled": ("batch_cancelled", "This request was not run, because the batch was cancelled."),
    "expired": ("batch_expired", "This request could not be run before the batch expired."),
    "failed": ("batch_failed", "This request was not run, because the batch failed."),
}


@dataclass
class Usage:
    """Summed tokens of a batch's responses."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    def add(self, body: Any) -> None:
        """Adds a response's usage, which chat completions and responses name differently."""
        usage = body.get("usage") if isinstance(body, dict) else None
        if not isinstance(usage, dict):
            return
        self.input_tokens += _count(usage, "prompt_tokens", "input_tokens")
        self.output_tokens += _count(usage, "completion_tokens", "output_tokens")
        self.cached_tokens += _detail(usage, "cached_tokens", "prompt_tokens_details", "input_tokens_details")
        self.reasoning_tokens += _detail(
            usage, "reasoning_tokens", "completion_tokens_details", "output_tokens_details"
        )

    def to_json(self) -> dict[str, Any]:
        """The usage of the API's batch object."""
        return {
            "input_tokens": self.input_tokens,
            "input_tokens_details": {"cached_tokens": self.cached_tokens},
            "output_tokens": self.output_tokens,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
            "total_tokens": self.input_tokens + self.output_tokens,
        }


@dataclass
class Results:
    """The content of a batch's files on disk, with their rows still to be stored; None where there is no such line."""

    output: FileRow | None = None
    errors: FileRow | None = None
    completed: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def rows(self) -> list[FileRow]:
        """The rows to store."""
        return [row for row in (self.output, self.errors) if row is not None]


def answer_line(request: BatchRequest, answer: RowAnswer) -> dict[str, Any]:
    """The line of an answered row."""
    response = error = None
    if answer.status:
        response = {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body}
    else:
        error = {"code": answer.error_code, "message": answer.error_message}
    return _line(request.custom_id, response, error)


def write_results(
    files: Files,
    journal: Journal,
    rows: int,
    missing: Callable[[], list[str]],
    *,
    name: str,
    status: str,
    lifetime: timedelta | None,
) -> Results:
    """Writes the journal's lines to an output file and an error file, in the order of the input.

    Args:
        missing: returns the custom_ids of the rows without a line, in order.
        status: the batch's last status, which is the reason why rows are missing.

    Raises:
        NoSpace: the disk is full.
    """
    results = Results()
    with ExitStack() as stack:
        output, errors = (stack.enter_context(files.incoming()) for _ in range(2))
        for _, failed, line in journal.lines(rows):
            (errors if failed else output).write(dumped(line))
            results.failed += failed
            results.completed += not failed
            if not failed:
                results.usage.add(line["response"]["body"])
        if results.completed + results.failed < rows:
            code, message = _CODES.get(status, _CODES["failed"])
            for custom_id in missing():
                errors.write(dumped(_line(custom_id, None, {"code": code, "message": message})))

        def publish(incoming: IncomingFile, kind: str) -> FileRow | None:
            if not incoming.size:
                return None
            return files.publish(incoming, f"{name}_{kind}.jsonl", BATCH_RESULTS, expires_after=lifetime)

        results.output, results.errors = publish(output, "output"), publish(errors, "error")
    return results


def _line(custom_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> dict[str, Any]:
    return {"id": f"batch_req_{new_ulid()}", "custom_id": custom_id, "response": response, "error": error}


def _count(usage: dict[str, Any], *names: str) -> int:
    return next((value for name in names if type(value := usage.get(name)) is int and value >= 0), 0)


def _detail(usage: dict[str, Any], name: str, *groups: str) -> int:
    return next((_count(details, name) for group in groups if isinstance(details := usage.get(group), dict)), 0)
