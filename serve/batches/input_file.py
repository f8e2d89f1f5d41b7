"""Reads the lines of a batch's input and checks all of them before the first request. It sends nothing.

The codes of errors are those that Azure documents for the same API; OpenAI documents none.
"""

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from models.errors import Invalid
from models.http.json_bounds import parse_bounded
from serve.batches.batches import batch_error

MAX_ROWS = 50_000
MAX_ERRORS = 100  # more are only counted
_MAX_CUSTOM_ID = 512
_SHOWN = 80


@dataclass(frozen=True)
class BatchRequest:
    """One row. `row`: its number from 0, without empty lines; `line`: its line in the file from 1."""

    row: int
    line: int
    custom_id: str
    body: dict[str, Any]


@dataclass
class CheckedInput:
    """What the check of an input file has found. `offsets`: where each row begins in the file."""

    model: str | None = None
    offsets: array = field(default_factory=lambda: array("Q"))
    lines: array = field(default_factory=lambda: array("L"))
    errors: list[dict[str, Any]] = field(default_factory=list)
    more_errors: int = 0

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.offsets)

    def add_error(self, code: str, message: str, line: int | None = None, param: str | None = None) -> None:
        """Adds an error, or counts it if there are many."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(batch_error(code, message, line, param))
        else:
            self.more_errors += 1

    def all_errors(self) -> list[dict[str, Any]]:
        """The first errors, and one that says how many more there are."""
        if not self.more_errors:
            return self.errors
        text = f"{self.more_errors:,} more errors are not listed."
        return [*self.errors, batch_error("too_many_errors", text)]


class _BadLine(ValueError):
    """A line that is not a request of this batch."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.param = code, param


def check_input(path: Path, endpoint: str, max_line: int) -> CheckedInput:
    """Checks every line of an input file.

    Args:
        max_line: the largest accepted line in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    checked, seen = CheckedInput(), {}
    with path.open("rb") as stream:
        offset, number = 0, 0
        while raw := stream.readline(max_line + 1):
            number += 1
            start, offset = offset, offset + len(raw)
            if len(raw) > max_line and not raw.endswith(b"\n"):
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(max_line)
                    offset += len(raw)
                checked.add_error("invalid_request", f"This line is over the limit of {max_line:,} bytes.", number)
                continue
            if not raw.strip():
                continue
            if checked.rows == MAX_ROWS:
                checked.add_error("too_many_tasks", f"A batch may have {MAX_ROWS:,} requests. Divide the file.", number)
                return checked
            checked.offsets.append(start)
            checked.lines.append(number)
            try:
                content = _parse(raw, first=number == 1)
                _check_request(content, endpoint)
                _check_custom_id(content["custom_id"], number, seen)
                model = content["body"]["model"]
                if checked.model is None:
                    checked.model = model
                elif model != checked.model:
                    raise _BadLine(
                        "model_mismatch",
                        f"The model is {model[:_SHOWN]!r}; the lines before have {checked.model[:_SHOWN]!r}. "
                        "A batch has one model.",
                        "body.model",
                    )
            except _BadLine as error:
                checked.add_error(error.code, str(error), number, error.param)
    if not checked.rows and not checked.errors:
        checked.add_error("empty_batch", "The file has no requests.")
    return checked


def read_requests(path: Path, checked: CheckedInput, skipped: "frozenset[int] | set[int]") -> Iterator[BatchRequest]:
    """The rows of a checked file in order, without the `skipped` ones, read as they are needed."""
    with path.open("rb") as stream:
        for row in range(checked.rows):
            if row in skipped:
                continue
            stream.seek(checked.offsets[row])
            line = checked.lines[row]
            content = _parse(stream.readline(), first=line == 1)
            yield BatchRequest(row, line, content["custom_id"], content["body"])


def _parse(raw: bytes, *, first: bool) -> dict[str, Any]:
    if first:
        raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        content = parse_bounded(raw)
    except (orjson.JSONDecodeError, Invalid) as error:
        message = str(error) if isinstance(error, Invalid) else "This line is not valid JSON."
        raise _BadLine("invalid_json_line", message) from None
    if not isinstance(content, dict):
        raise _BadLine("invalid_json_line", "This line is not a JSON object.")
    return content


def _check_request(content: dict[str, Any], endpoint: str) -> None:
    for name in ("custom_id", "method", "url", "body"):
        if content.get(name) is None:
            raise _BadLine("missing_required_parameter", f"This line has no {name}.", name)
    if content["method"] != "POST":
        raise _BadLine("invalid_method", "method must be POST.", "method")
    if content["url"] != endpoint:
        raise _BadLine("url_mismatch", f"url must be {endpoint}, the endpoint of the batch.", "url")
    body = content["body"]
    if not isinstance(body, dict):
        raise _BadLine("invalid_request", "body must be an object, the body of a request.", "body")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _BadLine("missing_required_parameter", "The body has no model.", "body.model")
    if body.get("stream"):
        raise _BadLine("invalid_request", "A batch cannot stream: leave out stream.", "body.stream")
    if body.get("background"):
        raise _BadLine("invalid_request", "A batch already runs in the background: leave out background.",
                       "body.background")  # fmt: skip


def _check_custom_id(custom_id: Any, line: int, seen: dict[bytes, int]) -> None:
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= _MAX_CUSTOM_ID:
        raise _BadLine("invalid_request", f"custom_id must be a string of 1 to {_MAX_CUSTOM_ID} characters.",
                       "custom_id")  # fmt: skip
    # Digests instead of texts, so that 50,000 of them take little memory.
    digest = hashlib.blake2b(custom_id.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    first = seen.setdefault(digest, line)
    if first != line:
        raise _BadLine("duplicate_custom_id", f"The custom_id is also that of line {first}.", "custom_id")
