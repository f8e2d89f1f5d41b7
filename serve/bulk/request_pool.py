"""Keeps as many requests in flight as a `Concurrency` says. `parley generate` and batches share it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from serve.bulk.concurrency import Concurrency

_Item = TypeVar("_Item")


async def run_requests(
    items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], concurrency: Concurrency
) -> None:
    """Calls `work` for every item, in order, with at most `concurrency.limit` calls at once.

    The items are read as they are needed. The first error ends all calls and is raised.
    """
    pool = _Pool(items, work, concurrency)
    try:
        await pool.run()
    finally:
        await pool.close()


class _Pool(Generic[_Item]):
    """The calls in flight: each task calls `work` again and again while the limit allows its number of tasks."""

    def __init__(self, items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], limit: Concurrency) -> None:
        self._items, self._work, self._concurrency = iter(items), work, limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0  # tasks that go on; one that has decided to end is still in `_tasks` for a moment
        self._exhausted = False
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Returns when every item is done."""
        self._fill()
        await self._ended

    async def close(self) -> None:
        """Cancels the calls that still run."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _fill(self) -> None:
        while not self._exhausted and self._active < self._concurrency.limit:
            self._active += 1
            task = asyncio.ensure_future(self._repeat())
            self._tasks.add(task)
            task.add_done_callback(self._finish)

    async def _repeat(self) -> None:
        while self._active <= self._concurrency.limit:
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                return
            await self._work(item)
            if self._active < self._concurrency.limit:
                self._fill()
        self._active -= 1

    def _finish(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._ended.done() or task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._ended.set_exception(error)
        elif not self._tasks:
            self._ended.set_result(None)
