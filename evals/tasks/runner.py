"""Asks models every prompt of a task, many at once, and keeps each answer. It knows no scorer and no statistics.

Each model has `concurrency` requests in flight all the time: the next starts as soon as one ends, so engines stay
full. An answer is stored under (model version, prompt, parameters) and never asked for twice; a run that was killed
goes on where it was, at most a quarter of a second back. The turns of a conversation are asked one after another, each
after the model's own answers before (`threads`). A sample that fails is a row with its error. Only what cost nothing
is asked again: a refused connection, a full queue (429), a model that is starting (503); a time-out or a broken
connection may have been answered and paid for, and is not.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.tasks.answer_cache import Kept, Outcome, parameters_hash
from evals.tasks.conversations import Asking, Thread, go_on
from evals.tasks.task import TaskSample
from models.database import Database
from models.errors import ParleyError
from models.messages import Completer, Completion, Message
from models.retries import retry_delay

CONCURRENCY = 32  # requests in flight for each model: about where a small engine's throughput levels off
ATTEMPTS = 6


@dataclass(frozen=True)
class Progress:
    """How far a run is. `cached` of the `done` were there before; `failed` of them have no answer."""

    done: int
    total: int
    cached: int
    failed: int


@dataclass(frozen=True)
class Run:
    """All outcomes by model, in the order of the samples; seconds from the first request to the last answer."""

    outcomes: Mapping[str, tuple[Outcome, ...]]
    seconds: float
    asked: int
    cached: int


async def ask_all(
    database: Database,
    completer_for: Callable[[str], Completer],
    models: Sequence[str],
    samples: Sequence[TaskSample],
    parameters: Mapping[str, Any],
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Asks every model every sample, as far as the answers are not stored yet.

    Args:
        completer_for: a model's completer, which must not retry by itself.
        models: ids of versions, not aliases.
        parameters: OpenAI's options, such as temperature and max_tokens.
        concurrency: requests in flight for each model.
    """
    asking = Asking.of(samples)
    kept = Kept(database, parameters_hash(parameters))
    threads = {model: [Thread(turns) for turns in asking.turns] for model in models}
    await asyncio.to_thread(go_on, kept, threads)
    missing = {model: [thread for thread in found if not thread.over] for model, found in threads.items()}
    total = sum(map(len, asking.turns)) * len(models)
    asked = sum(thread.left for found in missing.values() for thread in found)
    failed = 0

    def tell() -> None:
        if progress:
            progress(Progress(total - asked + done, total, total - asked, failed))

    done = 0
    tell()
    began = time.perf_counter()
    ended = began

    async def work(model: str, waiting: Iterator[Thread], patience: "_Patience") -> None:
        nonlocal done, failed, ended
        complete = completer_for(model)
        for thread in waiting:
            while not thread.over:
                left = thread.left
                try:
                    said = await _asked(complete, thread.messages, parameters, patience)
                    thread.add(kept.add(model, thread.key, said))
                except ParleyError as error:
                    thread.fail(str(error))
                except Exception as error:  # one server's odd answer must not take the other answers along
                    thread.fail(f"{type(error).__name__}: {' '.join(str(error).split())}")
                failed += thread.failed
                done, ended = done + left - thread.left, time.perf_counter()
                tell()

    storing = asyncio.ensure_future(kept.store_for_ever())
    workers = []
    for model in models:
        # One iterator for all of a model's workers: whoever is free takes the next.
        waiting, patience = iter(missing[model]), _Patience()
        workers += [
            asyncio.ensure_future(work(model, waiting, patience)) for _ in range(min(concurrency, len(missing[model])))
        ]
    try:
        await _all_or_storing_failed(workers, storing)
    finally:
        for task in (*workers, storing):
            task.cancel()
        await asyncio.gather(*workers, storing, return_exceptions=True)
        await asyncio.to_thread(kept.store, kept.take())
    found = {model: asking.spread(model, threads[model], kept) for model in models}
    return Run(found, ended - began, asked, total - asked)


async def _all_or_storing_failed(workers: Sequence[asyncio.Future[None]], storing: asyncio.Future[None]) -> None:
    """Waits for the workers; a fault in one, or a disk that is full, ends the waiting at once."""
    everything = asyncio.gather(*workers)
    await asyncio.wait({everything, storing}, return_when=asyncio.FIRST_COMPLETED)
    if storing.done():
        everything.cancel()
        await storing
    await everything


@dataclass
class _Patience:
    """Whether waiting for a model is worth it: not once many in a row could not reach it."""

    unreached: int = 0

    @property
    def lost(self) -> bool:
        return self.unreached >= CONCURRENCY


async def _asked(
    complete: Completer, messages: Sequence[Message], parameters: Mapping[str, Any], patience: _Patience
) -> Completion:
    for attempt in range(ATTEMPTS):
        try:
            said = await complete(messages, **parameters)
        except ParleyError as error:
            wait = retry_delay(error, attempt)
            patience.unreached += wait is not None
            if wait is None or patience.lost or attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(wait)
        else:
            patience.unreached = 0
            return said
    raise AssertionError("every way out of the loop is above")
