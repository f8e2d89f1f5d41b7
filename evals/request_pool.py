"""Many questions to models at once, but not too many: bounded, counted, with progress. It knows no question.

A sample that fails is data: a ParleyError becomes None and a line in `failures`, and the rest goes on. Anything
else (a cancelled job, a fault of ours) stops everything that still runs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from models.errors import ParleyError

Report = Callable[[float, str], None]
CONCURRENCY = 16
_QUIET_S = 0.25  # between two reports: each may write to the database

Item = TypeVar("Item")
Found = TypeVar("Found")


class Steps:
    """The steps of one run. `total` is set before they start, so that progress runs from 0 to 1 once."""

    def __init__(self, total: int, report: Report | None = None, concurrency: int = CONCURRENCY) -> None:
        self.total = max(total, 1)
        self.done = 0
        self.failures: list[ParleyError] = []
        self._report = report
        self._concurrency = concurrency
        self._told = 0.0

    def skip(self, steps: int) -> None:
        """Counts steps that were done in an earlier run."""
        self.done += steps

    async def each(
        self, items: Sequence[Item], ask: Callable[[Item], Awaitable[Found]], doing: str
    ) -> list[Found | None]:
        """Asks about each item, `concurrency` at a time; answers in the order of the items, None where it failed."""
        gate = asyncio.Semaphore(self._concurrency)

        async def one(item: Item) -> Found | None:
            async with gate:
                try:
                    return await ask(item)
                except ParleyError as error:
                    self.failures.append(error)
                    return None
                finally:
                    self.done += 1

        async def told(item: Item) -> Found | None:
            found = await one(item)
            self._tell(doing)
            return found

        tasks = [asyncio.ensure_future(told(item)) for item in items]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tell(self, doing: str) -> None:
        now = time.monotonic()
        if self._report and (now - self._told >= _QUIET_S or self.done >= self.total):
            self._told = now
            self._report(min(self.done / self.total, 1.0), f"{doing}: {self.done} of {self.total}")
