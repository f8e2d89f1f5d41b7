"""Stores chat completions and responses: the event loop collects the bytes of a request and its response, and a thread
stores them.

A SIGKILL loses what was answered in the last second; an orderly stop loses nothing. While the database does not answer,
completions wait in memory, up to a limit.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from models.completions.masking import mask_completion
from models.completions.stored_completions import StoredCompletion, StoredCompletions
from models.database import Database, utcnow
from models.errors import Invalid, Unavailable
from models.http.payloads import run_in_thread
from models.settings.settings import Settings
from serve.accounting.captured_completions import MAX_RESPONSE_BYTES, CapturedCompletion, stored_completion
from serve.accounting.request_report import RequestRecord
from serve.accounting.writer_thread import WriterThread

_MAX_WAITING_BYTES = 64 * 2**20
_BATCH = 64
_SWEEP_INTERVAL_S = 600.0
_MAX_PAIRS, _MAX_NAME, _MAX_VALUE = 16, 64, 512
# How often, and how long, one gateway waits for what another has answered and not stored yet.
_POLL_S, _POLLS = 0.1, 25
_log = logging.getLogger("parley.gateway")

_Waiting = tuple[CapturedCompletion, RequestRecord, datetime]


class CompletionLog(WriterThread):
    """Records completions and responses. `start` and `stop` are for the process's start and end, the other methods for
    the event loop.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        super().__init__("completions")
        self._policy = settings.store_completions
        self._responses_policy = "never" if self._policy == "never" else settings.store_responses
        self._masked = settings.store_masked
        self._shared = settings.gateway_workers > 1 or settings.database_url is not None
        self._writing = threading.Lock()
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

    @property
    def stores_responses(self) -> bool:
        """Whether responses may be stored at all."""
        return self._responses_policy != "never"

    def wants_response(self, content: Mapping[str, Any]) -> bool:
        """Whether a response should be stored. Raises Invalid as `wants`."""
        store = content.get("store")
        if store is not None and not isinstance(store, bool):
            raise Invalid("store must be true or false.", param="store")
        if not self.stores_responses or not (self._responses_policy == "all" if store is None else store):
            return False
        check_metadata(content.get("metadata"))
        return True

    def record(self, captured: CapturedCompletion, request: RequestRecord) -> None:
        """Records a response that was sent completely."""
        if captured.size > MAX_RESPONSE_BYTES or self._recorded_bytes - self._stored_bytes > _MAX_WAITING_BYTES:
            self._lost += 1
            return
        self._recorded_bytes += captured.size + len(captured.body)
        self._waiting.append((captured, request, utcnow()))

    async def catch_up(self, attempts: int) -> bool:
        """See `models.completions.recorded`: stores what this gateway has recorded, then waits for other gateways."""
        if attempts == 0:
            await run_in_thread(self._write)
            return True
        if not self._shared or attempts > _POLLS:
            return False
        await asyncio.sleep(_POLL_S)
        return True

    def discard(self) -> None:
        """Discards what was recorded and is not stored yet."""
        self._waiting.clear()
        self._recorded_bytes = self._stored_bytes = 0

    def _write(self) -> None:
        with self._writing:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._lost > self._reported:
            _log.error(
                "%d completions were not stored: they are over 8 MiB, or the database does not answer",
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
                _log.warning("completions cannot be stored and wait in memory: %s", error)
            self._failed = True
        except Exception:
            if not self._failed:
                _log.exception("storing completions failed")
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
        try:
            completion = stored_completion(captured, record, created, self._lifetime)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("the response of %s was not stored: %s", record.request_id.decode(), error)
            return None
        return mask_completion(completion) if self._masked else completion

    def _close(self) -> None:
        if self._waiting:
            _log.error("%d completions were not stored: the database does not answer", len(self._waiting))


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
