"""Sends many prompts to a model, `concurrency` at a time, and stores each answer as it arrives.

A rejected request becomes a row with its error. If the server is busy or unavailable, the run waits and retries, and
finally stops without losing anything. Only requests that cost nothing are retried. It knows neither file formats nor
terminals.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import Busy, ParleyError, Unauthorized, Unavailable, retry_delay
from serve.bulk.concurrency import START, FixedConcurrency
from serve.bulk.journal import Journal, syncing
from serve.bulk.request_pool import run_requests
from serve.bulk.rows import Row, answer_line, tokens_of

ATTEMPTS = 8

# Sends a body to a path below /v1 and returns the server's JSON; raises ParleyError.
Post = Callable[[str, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True)
class Progress:
    """The progress of a run: finished rows, all rows, failed rows, and this run's tokens and seconds."""

    done: int
    total: int
    failed: int
    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens per second in this run."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Generated:
    """The result of a complete run. `before`: rows that an earlier run had answered."""

    rows: int
    before: int
    failed: int
    tokens: int
    seconds: float


async def generate(
    post: Post,
    rows: Sequence[Row],
    journal: Journal,
    *,
    concurrency: int = START,
    progress: Callable[[Progress], None] | None = None,
) -> Generated:
    """Sends every row without an answer in the journal, and writes the output.

    Raises:
        Unauthorized, Busy, Unavailable: no row can be answered now; earlier answers are in the journal.
        NoSpace, Invalid: the journal cannot be written.
    """
    pending = [number for number in range(len(rows)) if number not in journal.stored or journal.stored[number].failed]
    before = len(rows) - len(pending)
    done, failed_rows, tokens, began = before, 0, 0, time.perf_counter()

    def report() -> None:
        if progress:
            progress(Progress(done, len(rows), failed_rows, tokens, time.perf_counter() - began))

    report()

    async def work(number: int) -> None:
        nonlocal done, failed_rows, tokens
        row = rows[number]
        try:
            answer = await _post_with_retries(post, row)
            line, failed = answer_line(row, answer, None), False
            tokens += tokens_of(answer)
        except _Stop as stop:
            raise stop.error from stop.error.__cause__
        except ParleyError as error:
            line, failed = answer_line(row, None, error), True
        except (LookupError, TypeError) as error:
            unexpected = Unavailable(f"The server's answer has an unexpected format ({type(error).__name__}: {error}).")
            line, failed = answer_line(row, None, unexpected), True
        journal.add(number, line, failed=failed)
        done, failed_rows = done + 1, failed_rows + failed
        report()

    async with syncing(journal):
        if pending:
            await run_requests(pending, work, FixedConcurrency(concurrency))
    seconds = time.perf_counter() - began
    journal.finish(len(rows))
    return Generated(len(rows), before, len(journal.failed), tokens, seconds)


class _Stop(Exception):
    """An error that ends the whole run."""

    def __init__(self, error: ParleyError) -> None:
        super().__init__(str(error))
        self.error = error


async def _post_with_retries(post: Post, row: Row) -> object:
    for attempt in range(ATTEMPTS):
        try:
            return await post(row.path, row.body)
        except Unauthorized as error:
            raise _Stop(error) from error
        except ParleyError as error:
            wait = retry_delay(error, attempt)
            if isinstance(error, Busy) and wait is None:  # the daily budget is used up, for the other rows too
                raise _Stop(error) from error
            if wait is None:
                raise
            if attempt == ATTEMPTS - 1:
                raise _Stop(error) from error
            await asyncio.sleep(wait)
    raise AssertionError("the loop always returns or raises")
