"""What one engine or upstream is given: a number of requests at once, a queue behind them, and a pause after failures.

The states of a circuit breaker and their names are those of M. Nygard, "Release It!" (2007). Nothing here knows HTTP.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable

from models.errors import Busy
from serve.gateway.upstream_errors import UpstreamDown

_BATCH_SHARE = 0.75  # batches leave the other places free, so that other requests never queue behind their rows
_OTHERS_S = 30.0  # how long after a request others are expected
_FAILURES_IN_A_ROW = 5
_WINDOW, _FAILURE_SHARE = 20, 0.5  # opens also when half of the last 20 requests failed
_OPEN_S, _MAX_OPEN_S = 5.0, 60.0


class ConcurrencyLimiter:
    """A bounded number of running requests with a bounded FIFO queue.

    Each `acquire` or `acquire_nowait` needs one `release`. Rows of batches never queue, and need `acquire_for_batch`
    and `release_for_batch`; while there are other requests, at most `max_batch_rows` of them run.
    """

    __slots__ = (
        "_batch_rows", "_max_batch_rows", "_max_queued", "_max_running", "_name", "_others_at", "_queue", "_timeout_s",
        "running",
    )  # fmt: skip

    def __init__(
        self, name: str, *, max_running: int, max_queued: int, timeout_s: float, max_batch_rows: int = 16
    ) -> None:
        self._name = name
        self._max_running, self._max_queued, self._timeout_s = max_running, max_queued, timeout_s
        self._queue: deque[asyncio.Future[None]] = deque()
        self.running = 0
        self._batch_rows, self._max_batch_rows = 0, max_batch_rows
        self._others_at = -math.inf

    @property
    def available(self) -> bool:
        """Whether a request can run without queueing."""
        return self.running < self._max_running

    @property
    def load(self) -> int:
        """The requests that run or are queued."""
        return self.running + len(self._queue)

    def acquire_nowait(self) -> None:
        """Takes a slot that is `available`."""
        self.running += 1
        if self._batch_rows:
            self._others_at = time.monotonic()

    def acquire_for_batch(self) -> None:
        """Takes a slot for a row of a batch.

        Raises:
            Busy: the other slots are kept for other requests.
        """
        most = int(self._max_running * _BATCH_SHARE) or 1
        others = self.running - self._batch_rows > 0 or time.monotonic() - self._others_at < _OTHERS_S
        if self._queue or self._batch_rows >= (min(most, self._max_batch_rows) if others else most):
            raise Busy(f"{self._name!r} has no place for another row of a batch now.", retry_after=1)
        self.running += 1
        self._batch_rows += 1

    def release_for_batch(self) -> None:
        """Returns the slot of a row of a batch."""
        self._batch_rows -= 1
        self.release()

    async def acquire(self) -> None:
        """Queues for a slot and takes it, first come, first served.

        Raises:
            Busy: the queue is full, or the wait timed out.
        """
        if len(self._queue) >= self._max_queued:
            raise Busy(f"The queue for {self._name!r} is full. Try again later.", retry_after=1)
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(slot)
        try:
            async with asyncio.timeout(self._timeout_s):
                await slot
        except BaseException as error:
            if slot.done() and not slot.cancelled():
                self.release()  # the slot was granted in the same moment
            elif slot in self._queue:
                self._queue.remove(slot)
            if isinstance(error, TimeoutError):
                raise Busy(f"{self._name!r} is still at its limit. Try again later.", retry_after=1) from None
            raise

    def release(self) -> None:
        """Returns a slot and grants it to the first request in the queue."""
        while self._queue:
            first = self._queue.popleft()
            if not first.done():
                first.set_result(None)  # the slot changes owner and is never counted as free in between
                return
        self.running -= 1


class CircuitBreaker:
    """The breaker of one upstream. Call `check` before each request, then exactly one of the `record_` methods."""

    __slots__ = ("_count", "_in_a_row", "_on_change", "_open_s", "_open_until", "_outcomes", "_probing", "name")

    def __init__(self, name: str, on_change: Callable[[str, str], None]) -> None:
        """`on_change` is called with the name and the new state: `open`, `half_open` or `closed`."""
        self.name = name
        self._on_change = on_change
        self._in_a_row = 0  # failures since the last success
        self._outcomes = 0  # one bit for each of the last requests, 1 for a failure
        self._count = 0
        self._open_until: float | None = None  # open until then, half open after that
        self._open_s = _OPEN_S
        self._probing = False

    @property
    def rejects_requests(self) -> bool:
        """Whether `check` would raise now."""
        return self._open_until is not None and (self._probing or time.monotonic() < self._open_until)

    def check(self) -> None:
        """Lets a request pass.

        Raises:
            UpstreamDown: the breaker is open, or half open with its probe still running.
        """
        if self._open_until is None:
            return
        remaining_s = self._open_until - time.monotonic()
        if remaining_s <= 0 and not self._probing:
            self._probing = True
            self._on_change(self.name, "half_open")
            return
        raise UpstreamDown(
            f"The server of {self.name!r} failed repeatedly and gets no requests for a while. Try again later.",
            code="upstream_error",
            retry_after=max(remaining_s, 1.0),
        )

    def record_success(self) -> None:
        """The upstream answered."""
        if self._open_until is not None:
            self._open_until, self._probing, self._open_s = None, False, _OPEN_S
            self._outcomes = self._count = 0
            self._on_change(self.name, "closed")
        self._in_a_row = 0
        self._record(0)

    def record_failure(self) -> None:
        """The upstream did not answer, or failed."""
        self._in_a_row += 1
        self._record(1)
        if self._open_until is not None:
            if self._probing:
                self._open_s = min(self._open_s * 2, _MAX_OPEN_S)
                self._open()
            return
        share = self._outcomes.bit_count() / _WINDOW if self._count >= _WINDOW else 0
        if self._in_a_row >= _FAILURES_IN_A_ROW or share >= _FAILURE_SHARE:
            self._open()

    def record_cancelled(self) -> None:
        """The request ended without an outcome, for instance because its client disconnected."""
        self._probing = False

    def _record(self, failure: int) -> None:
        self._outcomes = (self._outcomes << 1 | failure) & ((1 << _WINDOW) - 1)
        self._count += 1

    def _open(self) -> None:
        self._open_until, self._probing = time.monotonic() + self._open_s, False
        self._on_change(self.name, "open")
