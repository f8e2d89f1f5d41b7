"""The gateway's usage log: noted in memory, added to the table by a thread. No request ever waits for the database.

It writes once a second at the most, so a SIGKILL loses a second; a stop loses nothing. While the database does not
answer the sums grow in memory (by key, model and day, so they stay small) and are written when it does.
"""

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime

from models.database import Database
from models.errors import ParleyError
from models.usage import NO_KEY, Slot, Sums, add_usage

_EVERY_S = 1.0
_DAY_S = 86_400
_STOP_S = 10.0
_log = logging.getLogger("parley.gateway")
_Noted = tuple[int, str, str, bool, int, int, float]


class UsageLog:
    """Counts what is used. `note` is for the event loop, the rest for the process's start and end."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._noted: deque[_Noted] = deque()
        self._sums: dict[Slot, Sums] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Begins to write."""
        self._thread.start()

    def stop(self) -> None:
        """Writes what is left, and ends."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def note(self, key_id: str | None, model_id: str, prompt: int, completion: int, ok: bool, usd: float = 0.0) -> None:
        """One request is over. `prompt` and `completion` in tokens; `usd` is what it cost, for a hosted model."""
        # Days are UTC's, and the moment's own: a request at midnight belongs to the day in which it ended.
        self._noted.append((int(time.time()) // _DAY_S, key_id or NO_KEY, model_id, ok, prompt, completion, usd))

    def flush(self) -> None:
        """Writes what has been noted until now; keeps it where that fails. Called by the thread, and by tests.

        Raises:
            ParleyError: the database does not answer.
        """
        self._gather()
        if self._sums:
            add_usage(self._database, self._sums)
            self._sums = {}

    def _gather(self) -> None:
        found: dict[tuple[int, str, str], Sums] = {}
        for _ in range(len(self._noted)):
            day, key_id, model_id, ok, prompt, completion, usd = self._noted.popleft()
            sums = found.get((day, key_id, model_id))
            if sums is None:
                slot = Slot(datetime.fromtimestamp(day * _DAY_S, UTC).date(), key_id, model_id)
                sums = found[day, key_id, model_id] = self._sums.setdefault(slot, Sums())
            sums.requests += 1
            sums.failed += not ok
            sums.prompt_tokens += prompt
            sums.completion_tokens += completion
            sums.usd += usd

    def _run(self) -> None:
        told = False
        while not self._stop.wait(_EVERY_S):
            told = self._write(told)
        self._write(told)
        if self._sums:
            lost = sum(sums.requests for sums in self._sums.values())
            _log.error("the usage of %d requests is lost: the database did not answer until the end", lost)

    def _write(self, told: bool) -> bool:
        """Whether a failure has been told; it is told once, not every second."""
        try:
            self.flush()
        except ParleyError as error:
            if not told:
                _log.warning("usage cannot be written, it is kept until it can be: %s", error)
            return True
        except Exception:
            if not told:
                _log.exception("writing the usage broke")
            return True
        return False
