"""Bounded concurrency for requests to models, with progress.

A request that fails with a ParleyError yields None and an entry in `failures`; the others continue. Any other exception
(a cancelled job, a bug) stops everything that is still running.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from models.errors import ParleyError

ReportProgress = Callable[[float, str], None]
"""Receives the share that is done, 0 to 1, and a line of text. An exception from it stops the run."""

CONCURRENCY = 16
_MIN_INTERVAL_S = 0.25  # between two reports: each may write to the database

Item = TypeVar("Item")
Result = TypeVar("Result")


class RateLimitedReport:
    """Passes on counts as progress: at most every quarter of a second, and always the last."""

    def __init__(self, report: ReportProgress) -> None:
        self._report = report
        self._last = 0.0

    def __call__(self, done: int, total: int, line: str) -> None:
        now = time.monotonic()
        if now - self._last >= _MIN_INTERVAL_S or done >= total:
            self._last = now
            self._report(min(done / max(total, 1), 1.0), line)


class RequestPool:
    """The requests of one run. `total` is known before the first, so that progress goes from 0 to 1 once."""

    def __init__(self, total: int, report: ReportProgress | None = None, concurrency: int = CONCURRENCY) -> None:
        self.total = max(total, 1)
        self.done = 0
        self.failures: list[ParleyError] = []
        self._report = RateLimitedReport(report or (lambda share, line: None))
        self._concurrency = concurrency

    def skip(self, requests: int) -> None:
        """Counts requests whose results are already stored."""
        self.done += requests

    async def map(
        self, items: Sequence[Item], request: Callable[[Item], Awaitable[Result]], label: str
    ) -> list[Result | None]:
        """Runs a request for each item, `concurrency` at a time; results in the order of the items, None on failure."""
        slots = asyncio.Semaphore(self._concurrency)
        if items:
            self._report_progress(label)

        async def run(item: Item) -> Result | None:
            async with slots:
                try:
                    result = await request(item)
                except ParleyError as error:
                    self.failures.append(error)
                    result = None
                finally:
                    self.done += 1
            self._report_progress(label)
            return result

        tasks = [asyncio.ensure_future(run(item)) for item in items]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _report_progress(self, label: str) -> None:
        self._report(self.done, self.total, f"{label}: {self.done} of {self.total}")
