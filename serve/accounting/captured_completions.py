"""A request and the bytes of its response on their way to the store: chat completions and responses."""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import orjson

from models.completions.answers import read_answer, read_response
from models.completions.stored_completions import Kind, StoredCompletion, new_completion_id
from serve.accounting.request_report import RequestRecord

MAX_RESPONSE_BYTES = 8 * 2**20
_MAX_ID = 255
_NUL = re.compile(rb"((?<!\\)(?:\\\\)*)\\u0000")
_NOT_STORED = frozenset({"store", "metadata", "previous_response_id"})


class CapturedCompletion:
    """A request that `record` will store, and the pieces of its response as they are sent to the client."""

    __slots__ = ("body", "pieces", "record", "size")
    kind: Kind = "completion"

    def __init__(self, body: bytes, record: "Callable[[CapturedCompletion, RequestRecord], None]") -> None:
        self.body = body
        self.record = record
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Adds a piece of the response. Responses of more than 8 MiB are not stored."""
        self.size += len(piece)
        if self.size <= MAX_RESPONSE_BYTES:
            self.pieces.append(piece)


class CapturedResponse(CapturedCompletion):
    """The same for `/v1/responses`. Only the last piece is kept: it has the last event of a stream, and that event has
    the whole response.
    """

    __slots__ = ()
    kind: Kind = "response"

    def add(self, piece: bytes) -> None:
        """Replaces the piece before."""
        if piece:
            self.size = len(piece)
            self.pieces = [piece]


def stored_completion(
    captured: CapturedCompletion, record: RequestRecord, created: datetime, lifetime: timedelta | None
) -> StoredCompletion:
    """The completion to store. `lifetime`: None for never deleted.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: the response is not one.
    """
    request = orjson.loads(without_nul(captured.body))
    response = without_nul(b"".join(captured.pieces))
    if captured.kind == "response":
        answer = read_response(response, stream=record.stream)
    else:
        prompt, completion = record.prompt_tokens, record.completion_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        answer = {"usage": usage, **read_answer(response, stream=record.stream)}
    given: Any = answer.get("id")
    return StoredCompletion(
        given if isinstance(given, str) and 0 < len(given) <= _MAX_ID else new_completion_id(captured.kind),
        created,
        record.model,
        record.key.id if record.key is not None else "",
        record.request_id.decode(),
        {name: value for name, value in request.items() if name not in _NOT_STORED},
        answer,
        request.get("metadata") or {},
        created + lifetime if lifetime else None,
        captured.kind,
        request.get("previous_response_id") if captured.kind == "response" else None,
    )


def without_nul(data: bytes) -> bytes:
    """JSON without escaped NUL characters, which PostgreSQL cannot store. An escaped backslash before `u0000` stays."""
    return _NUL.sub(rb"\1", data) if b"\\u0000" in data else data
