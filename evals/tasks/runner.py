"""The task runner: sends every prompt to every model, many at once, and stores each answer.

Each model always has `concurrency` requests in flight, so that engines stay full. An answer is stored under (model
version, prompt, parameters) and never requested twice; a run that was killed resumes, at most a quarter of a second
back. The turns of a conversation follow one another (`conversations`). A sample that fails is a row with its error.
Only requests that cost nothing are retried: a refused connection, a full queue (429), a model that is starting (503). A
time-out or a broken connection may have been answered and billed, so it is not.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.tasks.answer_cache import AnswerCache, Outcome, parameters_hash
from evals.tasks.conversations import Conversation, ConversationPlan, replay_stored
from evals.tasks.task import TaskSample
from models.chat.messages import Completer, Completion, Message
from models.database import Database
from models.errors import ParleyError, retry_delay

CONCURRENCY = 32  # requests in flight for each model: about where a small engine's throughput levels off
ATTEMPTS = 6


@dataclass(frozen=True)
class Batch:
    """The requests of a run: every sample to every model (ids of versions, not aliases), with these parameters.

    `parameters` are OpenAI's options, such as temperature and max_tokens; `concurrency` is per model. Stored answers
    are reused only between runs with the same parameters and `salt`.
    """

    models: Sequence[str]
    samples: Sequence[TaskSample]
    parameters: Mapping[str, Any]
    concurrency: int = CONCURRENCY
    salt: str = ""


@dataclass(frozen=True)
class Progress:
    """A run's progress. Of the `done`, `cached` were already stored and `failed` have no answer."""

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
    batch: Batch,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Requests every answer that is not stored yet.

    Args:
        completer_for: a model's completer, which must not retry by itself.
    """
    plan = ConversationPlan.of(batch.samples)
    cache = AnswerCache(database, parameters_hash(batch.parameters, batch.salt))
    conversations = {model: [Conversation(turns) for turns in plan.turns] for model in batch.models}
    await asyncio.to_thread(replay_stored, cache, conversations)
    open_ = {model: [each for each in all_ if not each.done] for model, all_ in conversations.items()}
    total = sum(map(len, plan.turns)) * len(batch.models)
    counter = _Counter(total, sum(each.left for all_ in open_.values() for each in all_), progress)
    counter.report()
    began = time.perf_counter()
    writing = asyncio.ensure_future(cache.write_continuously())
    workers: list[asyncio.Future[None]] = []
    for model in (model for model in batch.models if open_[model]):
        # One queue for all of a model's workers: whichever is free takes the next.
        worker = _Worker(model, completer_for(model), batch.parameters, cache, counter)
        queue, count = iter(open_[model]), min(batch.concurrency, len(open_[model]))
        workers += [asyncio.ensure_future(worker.run(queue)) for _ in range(count)]
    try:
        await _wait_for_workers(workers, writing)
    finally:
        for task in (*workers, writing):
            task.cancel()
        await asyncio.gather(*workers, writing, return_exceptions=True)
        await asyncio.to_thread(cache.write, cache.take_pending())
    outcomes = {model: plan.outcomes(model, conversations[model], cache) for model in batch.models}
    return Run(outcomes, (counter.last or began) - began, counter.missing, total - counter.missing)


@dataclass
class _Counter:
    """Counts outcomes and reports them."""

    total: int
    missing: int
    progress: Callable[[Progress], None] | None
    done: int = 0
    failed: int = 0
    last: float | None = None

    def add(self, done: int, failed: int) -> None:
        self.done, self.failed, self.last = self.done + done, self.failed + failed, time.perf_counter()
        self.report()

    def report(self) -> None:
        if self.progress:
            cached = self.total - self.missing
            self.progress(Progress(cached + self.done, self.total, cached, self.failed))


@dataclass
class _Worker:
    """One model's requests. All of its workers share the count of requests in a row that could not reach it."""

    model: str
    complete: Completer
    parameters: Mapping[str, Any]
    cache: AnswerCache
    counter: _Counter
    unreached: int = 0

    async def run(self, queue: Iterator[Conversation]) -> None:
        for conversation in queue:
            while not conversation.done:
                remaining = conversation.left
                try:
                    completion = await self._request(conversation.messages)
                    conversation.add(self.cache.add(self.model, conversation.hash, completion))
                except ParleyError as error:
                    conversation.fail(str(error))
                except Exception as error:  # one server's malformed answer must not stop the other requests
                    conversation.fail(f"{type(error).__name__}: {' '.join(str(error).split())}")
                self.counter.add(remaining - conversation.left, conversation.failed)

    async def _request(self, messages: Sequence[Message]) -> Completion:
        for attempt in range(ATTEMPTS):
            try:
                completion = await self.complete(messages, **self.parameters)
            except ParleyError as error:
                wait = retry_delay(error, attempt)
                self.unreached += wait is not None
                # After many failures in a row the model is down, and waiting is pointless.
                if wait is None or self.unreached >= CONCURRENCY or attempt == ATTEMPTS - 1:
                    raise
                await asyncio.sleep(wait)
            else:
                self.unreached = 0
                return completion
        raise AssertionError("the loop returns or raises")


async def _wait_for_workers(workers: Sequence[asyncio.Future[None]], writing: asyncio.Future[None]) -> None:
    """Waits for the workers; a bug in one, or a full disk, ends the wait at once."""
    everything = asyncio.gather(*workers)
    await asyncio.wait({everything, writing}, return_when=asyncio.FIRST_COMPLETED)
    if writing.done():
        everything.cancel()
        await writing
    await everything
