"""Asks models every prompt of a task, many at once, and keeps each answer. It knows no scorer and no statistics.

Each model has `concurrency` requests in flight all the time: the next starts as soon as one ends, so engines stay
full. An answer is stored under (model version, prompt, parameters) and never asked for twice; a run that was killed
goes on where it was, at most a quarter of a second back. The turns of a conversation are asked one after another, each
after the model's own answers before. A sample that fails is a row with its error. Only what cost
nothing is asked again: a refused connection, a full queue (429), a model that is starting (503); a time-out or a
broken connection may have been answered and paid for, and is not.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from evals.scorers_named import Answer
from evals.tables import AnswerRow, insert_many_once
from evals.tasks import TaskSample, conversations, prompt_hash
from models.database import Database, new_ulid
from models.errors import ParleyError
from models.messages import Completer, Completion, Message
from models.repeating import wait_before_repeating

CONCURRENCY = 32  # requests in flight for each model: about where a small engine's throughput levels off
ATTEMPTS = 6
_STORE_EVERY_S = 0.25
_LOOKED_UP_AT_ONCE = 500  # prompts in one query: SQLite takes 32,766 variables, others fewer


@dataclass(frozen=True)
class Progress:
    """How far a run is. `cached` of the `done` were there before; `failed` of them have no answer."""

    done: int
    total: int
    cached: int
    failed: int


@dataclass(frozen=True)
class Outcome:
    """What became of one sample at one model: an answer (with its row's id) or an error, never both."""

    answer: Answer | None = None
    answer_id: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """All outcomes by model, in the order of the samples; seconds from the first request to the last answer."""

    outcomes: Mapping[str, tuple[Outcome, ...]]
    seconds: float
    asked: int
    cached: int


def parameters_hash(parameters: Mapping[str, Any]) -> str:
    """The SHA-256 of the parameters, whatever their order."""
    return hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode()).hexdigest()


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
    asking = _Asking.of(samples)
    kept = _Kept(database, parameters_hash(parameters))
    threads = {model: [_Thread(turns) for turns in asking.turns] for model in models}
    await asyncio.to_thread(_go_on, kept, threads)
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

    async def work(model: str, waiting: Iterator[_Thread], patience: "_Patience") -> None:
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


@dataclass
class _Thread:
    """One conversation with one model: how far it has come. `keys` name the answers that are there."""

    turns: tuple[tuple[Message, ...], ...]
    keys: list[str] = field(default_factory=list)
    messages: tuple[Message, ...] = field(init=False)
    key: str = field(init=False)
    error: str | None = None
    failed: int = 0

    def __post_init__(self) -> None:
        self.messages = self.turns[0]
        self.key = prompt_hash(self.messages)

    @property
    def left(self) -> int:
        """How many turns are to be asked yet."""
        return 0 if self.error is not None else len(self.turns) - len(self.keys)

    @property
    def over(self) -> bool:
        return self.left == 0

    def add(self, answer: Answer) -> None:
        """The answer to what was asked; what is asked next has it in it."""
        self.keys.append(self.key)
        if not self.over:
            said = Message(role="assistant", content=answer.text)
            self.messages = (*self.messages, said, *self.turns[len(self.keys)])
            self.key = prompt_hash(self.messages)

    def fail(self, error: str) -> None:
        """No answer came: what would have followed it cannot be asked either."""
        self.failed = self.left
        self.error = error

    def outcome(self, turn: int, model: str, kept: "_Kept") -> Outcome:
        """What became of a turn, counted from 0."""
        if turn < len(self.keys):
            return kept.outcomes[model, self.keys[turn]]
        first = turn == len(self.keys)
        return Outcome(error=self.error if first else f"The turn before it has no answer: {self.error}")


@dataclass(frozen=True)
class _Asking:
    """The different conversations of a task: samples that ask the same share one. `where`: of each sample, which
    conversation it belongs to and which of its turns it is."""

    turns: tuple[tuple[tuple[Message, ...], ...], ...]
    where: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, samples: Sequence[TaskSample]) -> "_Asking":
        number: dict[tuple[tuple[Message, ...], ...], int] = {}
        where: list[tuple[int, int]] = []
        for places in conversations(samples):
            turns = tuple(samples[place].messages for place in places)
            thread = number.setdefault(turns, len(number))
            where += [(thread, turn) for turn in range(len(turns))]
        return cls(tuple(number), tuple(where))

    def spread(self, model: str, threads: "Sequence[_Thread]", kept: "_Kept") -> tuple[Outcome, ...]:
        """Every sample's outcome at a model."""
        return tuple(threads[thread].outcome(turn, model, kept) for thread, turn in self.where)


def _go_on(kept: "_Kept", threads: Mapping[str, Sequence[_Thread]]) -> None:
    """Takes each conversation as far as its answers are stored: a turn at a time, for the next needs its words."""
    moving = [(model, thread) for model, found in threads.items() for thread in found]
    while moving:
        kept.read(list(threads), list({thread.key for _, thread in moving}))
        there = [(model, thread) for model, thread in moving if (model, thread.key) in kept.outcomes]
        for model, thread in there:
            answer = kept.outcomes[model, thread.key].answer
            assert answer is not None, "only answers are stored"
            thread.add(answer)
        moving = [(model, thread) for model, thread in there if not thread.over]


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
            wait = wait_before_repeating(error, attempt)
            patience.unreached += wait is not None
            if wait is None or patience.lost or attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(wait)
        else:
            patience.unreached = 0
            return said
    raise AssertionError("every way out of the loop is above")


@dataclass
class _Kept:
    """The answers of a run: those that were stored, and new ones on their way into the database."""

    database: Database
    parameters_hash: str
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    waiting: list[AnswerRow] = field(default_factory=list)

    def read(self, models: Sequence[str], hashes: Sequence[str]) -> None:
        for start in range(0, len(hashes), _LOOKED_UP_AT_ONCE):
            query = select(AnswerRow).where(
                AnswerRow.parameters_hash == self.parameters_hash,
                AnswerRow.model.in_(models),
                AnswerRow.prompt_hash.in_(hashes[start : start + _LOOKED_UP_AT_ONCE]),
            )
            with self.database.read() as session:
                for row in session.scalars(query):
                    self.outcomes[row.model, row.prompt_hash] = _outcome(row)

    def add(self, model: str, key: str, said: Completion) -> Answer:
        """Keeps an answer, as it will be stored."""
        row = AnswerRow(
            id=new_ulid(),
            model=model,
            prompt_hash=key,
            parameters_hash=self.parameters_hash,
            # A database refuses half a character (\ud800), which a model's JSON may hold.
            text=said.text.encode("utf-8", "replace").decode().replace("\x00", "\ufffd"),
            seconds=said.seconds,
            prompt_tokens=said.prompt_tokens,
            completion_tokens=said.completion_tokens,
            finish_reason=said.finish_reason,
        )
        self.outcomes[model, key] = outcome = _outcome(row)
        self.waiting.append(row)
        assert outcome.answer is not None
        return outcome.answer

    async def store_for_ever(self) -> None:
        # Many answers in one transaction, beside the asking: a flush to the disk takes as long as a short answer.
        while True:
            await asyncio.sleep(_STORE_EVERY_S)
            if self.waiting:
                await asyncio.shield(asyncio.to_thread(self.store, self.take()))

    def take(self) -> list[AnswerRow]:
        """What waits to be stored, from now on the caller's: taken by the loop's own thread, so that none is lost."""
        rows, self.waiting = self.waiting, []
        return rows

    def store(self, rows: Sequence[AnswerRow]) -> None:
        """Writes the rows. Where another run stored an answer to the same question first, that one counts."""
        if not rows:
            return
        with self.database.write() as session:
            there = insert_many_once(session, rows)
            for row in rows:
                if row.id in there:
                    continue
                same = select(AnswerRow).where(
                    AnswerRow.model == row.model,
                    AnswerRow.prompt_hash == row.prompt_hash,
                    AnswerRow.parameters_hash == row.parameters_hash,
                )
                self.outcomes[row.model, row.prompt_hash] = _outcome(session.scalars(same).one())


def _outcome(row: AnswerRow) -> Outcome:
    answer = Answer(
        text=row.text,
        model=row.model,
        seconds=row.seconds,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        finish_reason=row.finish_reason,
        id=row.id,
    )
    return Outcome(answer, row.id)
