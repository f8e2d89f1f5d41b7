"""Many prompts at one model, `concurrency` of them in flight all the time, each answer on disk as it comes.

The next is asked as soon as one ends, so an engine stays full. A request that a server refuses is a row with its error;
a server that is full or not there is waited for, and when that does not help the run stops, with nothing lost. Only
what cost nothing is asked again. It knows neither files' formats nor terminals.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.errors import Busy, ParleyError, Unauthorized, Unavailable
from models.retries import retry_delay
from serve.bulk.journal import Journal
from serve.bulk.rows import Row, answer_line, tokens_of

CONCURRENCY = 64  # where a small engine's throughput levels off
ATTEMPTS = 8
_SYNC_EVERY_S = 1.0

# A path below /v1 and a body → the server's JSON; raises ParleyError.
Post = Callable[[str, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True)
class Progress:
    """How far a run is: rows that are done of all, those of them without an answer, tokens and seconds of this run."""

    done: int
    total: int
    failed: int
    tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens a second, in this run."""
        return self.tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Generated:
    """A run that came to its end. `before` of the rows had been answered by an earlier one."""

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
    concurrency: int = CONCURRENCY,
    progress: Callable[[Progress], None] | None = None,
) -> Generated:
    """Asks every row that the journal has no answer to, and writes the output.

    Raises:
        Unauthorized, Busy, Unavailable: no row can be answered now; what was answered is in the journal.
        NoSpace, Invalid: the journal cannot be written.
    """
    left = [number for number in range(len(rows)) if number not in journal.kept or journal.kept[number].failed]
    before = len(rows) - len(left)
    done, without, tokens, began = before, 0, 0, time.perf_counter()

    def tell() -> None:
        if progress:
            progress(Progress(done, len(rows), without, tokens, time.perf_counter() - began))

    tell()
    waiting = iter(left)

    async def work() -> None:
        nonlocal done, without, tokens
        for number in waiting:
            row = rows[number]
            try:
                answer = await _answered(post, row)
                line, failed = answer_line(row, answer, None), False
                tokens += tokens_of(answer)
            except _Stop as stop:
                raise stop.error from stop.error.__cause__
            except ParleyError as error:
                line, failed = answer_line(row, None, error), True
            except (LookupError, TypeError) as error:
                odd = Unavailable(f"The server's answer is none ({type(error).__name__}: {error}).")
                line, failed = answer_line(row, None, odd), True
            journal.add(number, line, failed=failed)
            done, without = done + 1, without + failed
            tell()

    syncing = asyncio.ensure_future(_sync_for_ever(journal))
    workers = [asyncio.ensure_future(work()) for _ in range(min(concurrency, len(left)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for task in (*workers, syncing):
            task.cancel()
        await asyncio.gather(*workers, syncing, return_exceptions=True)
    seconds = time.perf_counter() - began
    journal.finish(len(rows))
    return Generated(len(rows), before, len(journal.failed), tokens, seconds)


class _Stop(Exception):
    """What ends the run, and not one row alone."""

    def __init__(self, error: ParleyError) -> None:
        super().__init__(str(error))
        self.error = error


async def _answered(post: Post, row: Row) -> object:
    for attempt in range(ATTEMPTS):
        try:
            return await post(row.path, row.body)
        except Unauthorized as error:
            raise _Stop(error) from error
        except ParleyError as error:
            wait = retry_delay(error, attempt)
            if isinstance(error, Busy) and wait is None:  # the day's budget is spent: the next row fares no better
                raise _Stop(error) from error
            if wait is None:
                raise
            if attempt == ATTEMPTS - 1:
                raise _Stop(error) from error
            await asyncio.sleep(wait)
    raise AssertionError("every way out of the loop is above")


async def _sync_for_ever(journal: Journal) -> None:
    # Beside the asking: a kill takes nothing that was written, a power cut takes a second's answers at the most.
    while True:
        await asyncio.sleep(_SYNC_EVERY_S)
        await asyncio.to_thread(journal.sync)
