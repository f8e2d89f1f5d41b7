"""How many requests run at once on one engine or upstream, and how many may queue behind them."""

import asyncio
from collections import deque

from models.errors import Busy


class ConcurrencyLimiter:
    """A bounded number of running requests with a bounded FIFO queue.

    Each `acquire` or `acquire_nowait` needs one `release`.
    """

    __slots__ = ("_max_queued", "_max_running", "_name", "_queue", "_timeout_s", "running")

    def __init__(self, name: str, *, max_running: int, max_queued: int, timeout_s: float) -> None:
        self._name = name
        self._max_running, self._max_queued, self._timeout_s = max_running, max_queued, timeout_s
        self._queue: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def available(self) -> bool:
        """Whether a request can run without queueing."""
        return self.running < self._max_running

    def acquire_nowait(self) -> None:
        """Takes a slot that is `available`."""
        self.running += 1

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
