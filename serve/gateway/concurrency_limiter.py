"""How many requests run at once on one engine or upstream, and how many may wait for a place behind them."""

import asyncio
from collections import deque

from models.errors import Busy


class Places:
    """The places at one engine or upstream: `running` are taken, and a queue with an end waits for more.

    Who has taken one by `take` or `wait` gives it back by `give`.
    """

    __slots__ = ("_most_running", "_most_waiting", "_name", "_wait_s", "_waiting", "running")

    def __init__(self, name: str, *, most_running: int, most_waiting: int, wait_s: float) -> None:
        self._name = name
        self._most_running, self._most_waiting, self._wait_s = most_running, most_waiting, wait_s
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.running = 0

    @property
    def free(self) -> bool:
        """Whether a place can be had at once."""
        return self.running < self._most_running

    def take(self) -> None:
        """Takes a free place."""
        self.running += 1

    async def wait(self) -> None:
        """Waits for a place and takes it; who came first goes first.

        Raises:
            Busy: the queue is full, or the wait too long.
        """
        if len(self._waiting) >= self._most_waiting:
            raise Busy(f"Too many requests wait for {self._name!r}. Try again later.", retry_after=1)
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._wait_s):
                await mine
        except BaseException as error:
            if mine.done() and not mine.cancelled():
                self.give()  # the place came in the same moment
            elif mine in self._waiting:
                self._waiting.remove(mine)
            if isinstance(error, TimeoutError):
                raise Busy(f"{self._name!r} has no place free yet. Try again later.", retry_after=1) from None
            raise

    def give(self) -> None:
        """Gives a place back, to whoever waits first."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)  # the place goes over to it, and is not free in between
                return
        self.running -= 1
