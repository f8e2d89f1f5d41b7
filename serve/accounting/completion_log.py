"""Stores chat completions: the event loop collects the bytes of a request and its response, and a thread stores them.

A SIGKILL loses the completions of at most a second; an orderly stop loses none. While the database does not answer,
completions wait in memory, up to a limit.
"""

import logging
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from models.completions.answers import read_answer
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, Unavailable
from models.settings.settings import Settings
from serve.accounting.request_report import RequestRecord
from serve.accounting.writer_thread import WriterThread

_MAX_RESPONSE_BYTES = 8 * 2**20
_MAX_WAITING_BYTES = 64 * 2**20
_BATCH = 64
_SWEEP_INTERVAL_S = 600.0
_MAX_PAIRS, _MAX_NAME, _MAX_VALUE, _MAX_ID = 16, 64, 512, 255
_NUL = re.compile(rb"((?<!\\)(?:\\\\)*)\\u0000")
_log = logging.getLogger("parley.gateway")


class CapturedCompletion:
    """A request that will be stored, and the pieces of its response as they are sent to the client."""

    __slots__ = ("body", "pieces", "size")

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Adds a piece of the response. Responses of more than 8 MiB are not stored."""
        self.size += len(piece)
        if self.size <= _MAX_RESPONSE_BYTES:
            self.pieces.append(piece)


_Waiting = tuple[CapturedCompletion, RequestRecord, datetime]


class CompletionLog(WriterThread):
    """Records completions. `wants` and `record` are for the event loop, the rest for the process's start and end."""

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__("completions")
        self._policy = settings.store_completions
        self._lifetime = timedelta(days=settings.completion_retention_days) or None
        self._completions = StoredCompletions(database)
        self._waiting: deque[_Waiting] = deque()
        # The event loop counts what it records, the thread what it stores: neither changes the other's count.
        self._recorded_bytes = self._stored_bytes = self._lost = self._reported = 0
        self._failed = False
        self._sweep_at = 0.0

    def wants(self, content: Mapping[str, Any]) -> bool:
        """Whether a chat request should be stored.

        Raises:
            Invalid: `store` is not a boolean, or the metadata is not at most 16 pairs of strings.
        """
        store = content.get("store")
        if self._policy == "never" or store is False or (store is None and self._policy != "all"):
            return False
        if store is not None and store is not True:
            raise Invalid("store must be true or false.", param="store")
        check_metadata(content.get("metadata"))
        return True

    def record(self, captured: CapturedCompletion, request: RequestRecord) -> None:
        """Records a response that was sent completely."""
        if captured.size > _MAX_RESPONSE_BYTES or self._recorded_bytes - self._stored_bytes > _MAX_WAITING_BYTES:
            self._lost += 1
            return
        self._recorded_bytes += captured.size + len(captured.body)
        self._waiting.append((captured, request, utcnow()))

    def discard(self) -> None:
        """Discards what was recorded and is not stored yet."""
        self._waiting.clear()
        self._recorded_bytes = self._stored_bytes = 0

    def _write(self) -> None:
        if self._lost > self._reported:
            _log.error(
                "%d chat completions were not stored: they are over 8 MiB, or the database does not answer",
                self._lost - self._reported,
            )
            self._reported = self._lost
        try:
            while self._waiting:
                self._write_batch([self._waiting[place] for place in range(min(_BATCH, len(self._waiting)))])
            if time.monotonic() > self._sweep_at:
                self._sweep_at = time.monotonic() + _SWEEP_INTERVAL_S
                self._completions.delete_expired()
            self._failed = False
        except Unavailable as error:
            if not self._failed:
                _log.warning("chat completions cannot be stored and wait in memory: %s", error)
            self._failed = True
        except Exception:
            if not self._failed:
                _log.exception("storing chat completions failed")
            self._failed = True

    def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        """Stores the first ones that wait. What the database refuses for another reason than that it does not answer
        is logged and not tried again.
        """
        whole = [completion for each in batch if (completion := self._complete(*each)) is not None]
        try:
            self._completions.add(whole)
        except Unavailable:
            raise
        except Exception:
            for completion in whole:
                try:
                    self._completions.add([completion])
                except Unavailable:
                    raise
                except Exception:
                    _log.exception("the response of %s was not stored", completion.request_id)
        for captured, *_ in batch:
            self._stored_bytes += captured.size + len(captured.body)
            self._waiting.popleft()

    def _complete(
        self, captured: CapturedCompletion, record: RequestRecord, created: datetime
    ) -> StoredCompletion | None:
        """The completion to store; None if the response is not one."""
        request_id = record.request_id.decode()
        try:
            request = orjson.loads(_without_nul(captured.body))
            answer = read_answer(_without_nul(b"".join(captured.pieces)), stream=record.stream)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the response of %s was not stored: %s", request_id, error)
            return None
        prompt, completion = record.prompt_tokens, record.completion_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        given = answer.get("id")
        return StoredCompletion(
            given if isinstance(given, str) and 0 < len(given) <= _MAX_ID else f"chatcmpl-{new_ulid()}",
            created,
            record.model,
            record.key.id if record.key is not None else "",
            request_id,
            {name: value for name, value in request.items() if name not in ("store", "metadata")},
            {"usage": usage, **answer},
            request.get("metadata") or {},
            created + self._lifetime if self._lifetime else None,
        )

    def _close(self) -> None:
        if self._waiting:
            _log.error("%d chat completions were not stored: the database does not answer", len(self._waiting))


def check_metadata(metadata: Any) -> None:
    """Raises Invalid unless a request's metadata is absent or at most 16 pairs of short strings."""
    if metadata is None:
        return
    valid = (
        isinstance(metadata, dict)
        and len(metadata) <= _MAX_PAIRS
        and all(
            len(name) <= _MAX_NAME and isinstance(value, str) and len(value) <= _MAX_VALUE
            for name, value in metadata.items()
        )
    )
    if not valid:
        raise Invalid(
            f"metadata of a stored completion must be at most {_MAX_PAIRS} pairs of strings, with names of at most "
            f"{_MAX_NAME} and values of at most {_MAX_VALUE} characters.",
            param="metadata",
        )


def _without_nul(data: bytes) -> bytes:
    """JSON without escaped NUL characters, which PostgreSQL cannot store. An escaped backslash before `u0000` stays."""
    return _NUL.sub(rb"\1", data) if b"\\u0000" in data else data
