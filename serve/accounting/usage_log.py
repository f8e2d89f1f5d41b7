"""The gateway's usage log: entries are kept in memory and added to the table by a thread, so no request waits for it.

Written once a second: a SIGKILL loses at most a second, a stop loses nothing. While the database is unreachable the
sums stay in memory; they are per key, model and day, so they stay small.
"""

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime

from models.database import Database
from models.errors import ParleyError
from models.usage import NO_KEY, Slot, Sums, add_usage

_INTERVAL_S = 1.0
_DAY_S = 86_400
_STOP_S = 10.0
_log = logging.getLogger("parley.gateway")
_Entry = tuple[int, str, str, bool, int, int, float]


class UsageLog:
    """Records usage. `record` is for the event loop, the rest for the process's start and end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending: deque[_Entry] = deque()
        self._sums: dict[Slot, Sums] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Starts the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Writes the remaining entries and stops the thread."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def record(
        self, key_id: str | None, model_id: str, prompt: int, completion: int, ok: bool, usd: float = 0.0
    ) -> None:
        """Records a finished request, in tokens; `usd` is its cost if the model is hosted."""
        # Days are in UTC: a request counts for the day in which it ends.
        self._pending.append((int(time.time()) // _DAY_S, key_id or NO_KEY, model_id, ok, prompt, completion, usd))

    def flush(self) -> None:
        """Writes all entries recorded so far and keeps them if that fails. Called by the thread and by tests.

        Raises:
            ParleyError: the database does not answer.
        """
        self._sum_pending()
        if self._sums:
            add_usage(self._database, self._sums)
            self._sums = {}

    def _sum_pending(self) -> None:
        new_sums: dict[tuple[int, str, str], Sums] = {}
        for _ in range(len(self._pending)):
            day, key_id, model_id, ok, prompt, completion, usd = self._pending.popleft()
            sums = new_sums.get((day, key_id, model_id))
            if sums is None:
                slot = Slot(datetime.fromtimestamp(day * _DAY_S, UTC).date(), key_id, model_id)
                sums = new_sums[day, key_id, model_id] = self._sums.setdefault(slot, Sums())
            sums.requests += 1
            sums.failed += not ok
            sums.prompt_tokens += prompt
            sums.completion_tokens += completion
            sums.usd += usd

    def _run(self) -> None:
        failed = False
        while not self._stop.wait(_INTERVAL_S):
            failed = self._write(failed)
        self._write(failed)
        if self._sums:
            lost = sum(sums.requests for sums in self._sums.values())
            _log.error("the usage of %d requests is lost: the database did not answer before the shutdown", lost)

    def _write(self, failed: bool) -> bool:
        """Flushes and returns whether that failed. Only the first of several failures is logged."""
        try:
            self.flush()
        except ParleyError as error:
            if not failed:
                _log.warning("usage cannot be written and is kept in memory for now: %s", error)
            return True
        except Exception:
            if not failed:
                _log.exception("writing the usage failed")
            return True
        return False
