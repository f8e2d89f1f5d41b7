"""The recorder: asks a model every prompt of a set, several samples each, and stores every answer as it arrives.

Nothing is requested twice: an answer is on disk before its request counts as done, and a stored answer is skipped. A
kill loses only the requests in flight. A failed sample is stored with its error, and the next run requests it again.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from evals.campaign_tables import RecordedAnswerRow
from evals.recordings.costs import Budget, most_usd, prompt_tokens, text_tokens
from evals.recordings.recording_request import RecordingRequest, missing_samples
from evals.recordings.recording_store import Recording, answered, begin, finish, store_answers
from evals.tasks.answer_cache import storable_text
from evals.tasks.runner import ATTEMPTS, Progress
from evals.votes.prompts import Prompt
from models.chat.completer import ServerAnswer, StartPatience, gateway_completer, read_completion
from models.chat.messages import Completion, as_dicts
from models.database import Database
from models.errors import Conflict, Invalid, NotFound, ParleyError, Unauthorized, Unavailable, retry_delay
from models.files.atomic import lock_file
from models.settings.settings import Settings
from models.usage import cost, has_price

_TIMEOUT_S = 600.0  # seconds; the gateway waits as long for an engine
_FAILURES_IN_A_ROW = 20  # failures in a row after which the model counts as down


class Server(Protocol):
    """Sends one request, without retries, and says which model answered: `GatewayCompleter` does."""

    async def send(self, path: str, body: Mapping[str, Any]) -> ServerAnswer: ...


@dataclass(frozen=True)
class RecordingRun:
    """The result of a run. `stopped` says why some samples were not requested; None if all were."""

    recording: Recording
    asked: int
    failed: int
    stopped: str | None
    first_error: str | None


async def record(
    database: Database,
    server: Server,
    request: RecordingRequest,
    locks: Path,
    progress: Callable[[Progress], None] | None = None,
) -> RecordingRun:
    """Records what is missing.

    Args:
        server: sends requests without retries; a time-out may have been billed and is not repeated.
        locks: a folder for the file that keeps two runs of one recording apart.

    Raises:
        Conflict: another run records the same.
        NotFound, Unauthorized: the model is unknown or the key is refused.
    """
    recording_id = await asyncio.to_thread(
        begin, database, request.spec.id, request.prompts, request.samples, request.stored_parameters
    )
    await asyncio.to_thread(locks.mkdir, parents=True, exist_ok=True)
    taken = f"Another run is recording {request.spec.id} with the same prompts. Wait for it."
    with lock_file(locks / f"{recording_id}.lock", taken, Conflict):
        done = await asyncio.to_thread(answered, database, recording_id)
        spent = cost(request.spec, done.prompt_tokens, done.completion_tokens)
        recorder = _Recorder(
            database, server, request, recording_id, Budget(request.max_usd, spent), len(done.keys), progress
        )
        try:
            await recorder.run(missing_samples(request, done.keys))
        finally:
            done = await asyncio.to_thread(answered, database, recording_id)
            usd = cost(request.spec, done.prompt_tokens, done.completion_tokens) if has_price(request.spec) else None
            recording = await asyncio.to_thread(finish, database, recording_id, usd)
    return RecordingRun(recording, recorder.asked, recorder.failed, recorder.stopped, recorder.first_error)


def record_served(
    settings: Settings,
    database: Database,
    request: RecordingRequest,
    progress: Callable[[Progress], None] | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> RecordingRun:
    """Like `record`, for a served or hosted model through the gateway. Call it outside of an event loop.

    `on_wait` is called with a line while requests wait for an engine that is starting.
    """
    patience = StartPatience(settings.longest_start_s, on_wait)

    async def run() -> RecordingRun:
        server = gateway_completer(settings, request.spec.id, _TIMEOUT_S, 0, many=True, patience=patience)
        try:
            return await record(database, server, request, settings.home / "recordings", progress)
        finally:
            await server.close()

    return asyncio.run(run())


@dataclass
class _Recorder:
    """One run: its workers, its counters, and the task that writes answers."""

    database: Database
    server: Server
    request: RecordingRequest
    recording_id: str
    budget: Budget
    stored: int
    progress: Callable[[Progress], None] | None
    asked: int = 0
    failed: int = 0
    in_a_row: int = 0
    with_logprobs: bool = True
    stopped: str | None = None
    first_error: str | None = None
    fatal: ParleyError | None = None
    _pending: list[tuple[RecordedAnswerRow, asyncio.Future[None]]] = field(default_factory=list)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, missing: Sequence[tuple[Prompt, int]]) -> None:
        """Requests everything that is missing, until done or stopped."""
        self._report()
        queue = iter(missing)
        writing = asyncio.ensure_future(self._write_continuously())
        count = min(self.request.concurrency, len(missing))
        workers = [asyncio.ensure_future(self._work(queue)) for _ in range(count)]
        try:
            everything = asyncio.gather(*workers)
            await asyncio.wait({everything, writing}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():  # a full disk, for example
                everything.cancel()
                await writing
            await everything
        finally:
            for task in (*workers, writing):
                task.cancel()
            await asyncio.gather(*workers, writing, return_exceptions=True)
            await asyncio.to_thread(self._write, self._take_pending())
        if self.fatal:
            raise self.fatal

    async def _work(self, queue: Iterator[tuple[Prompt, int]]) -> None:
        max_tokens = self.request.parameters["max_tokens"]
        for prompt, sample in queue:
            most = most_usd(self.request.spec, prompt.messages, max_tokens)
            if self.stopped or not await self.budget.reserve(most):
                self.stopped = self.stopped or f"the cost limit of ${self.request.max_usd:g} is reached"
                return
            actual = most  # if the run is cancelled, the request may have been billed
            try:
                row, actual = await self._sample(prompt, sample)
            finally:
                await self.budget.settle(most, actual)
            if row is None:
                return
            stored = asyncio.get_running_loop().create_future()
            self._pending.append((row, stored))
            self._arrived.set()
            await stored
            self.asked, self.failed = self.asked + 1, self.failed + (row.text is None)
            self._report()

    async def _sample(self, prompt: Prompt, sample: int) -> tuple[RecordedAnswerRow | None, float]:
        """The row of a sample and its cost; None if the run stops and nothing is stored."""
        row = RecordedAnswerRow(recording_id=self.recording_id, prompt_id=prompt.id, sample=sample)
        try:
            answer, completion = await self._request(prompt, sample)
        except (NotFound, Unauthorized) as error:
            self.fatal, self.stopped = error, str(error)
            return None, 0.0
        except ParleyError as error:
            self._count_failure(error)
            row.error = storable_text(str(error))
            billed = isinstance(error, Unavailable) and retry_delay(error, 0) is None
            return row, most_usd(self.request.spec, prompt.messages, self.request.parameters["max_tokens"]) * billed
        self.in_a_row = 0
        text = storable_text(completion.text)
        row.text, row.finish_reason = text, completion.finish_reason
        row.logprobs = _logprobs(answer.json)
        row.prompt_tokens, row.completion_tokens = completion.prompt_tokens, completion.completion_tokens
        row.seconds = completion.seconds
        return row, cost(
            self.request.spec,
            row.prompt_tokens if row.prompt_tokens is not None else prompt_tokens(prompt.messages),
            row.completion_tokens if row.completion_tokens is not None else text_tokens(text),
        )

    def _count_failure(self, error: ParleyError) -> None:
        self.first_error = self.first_error or str(error)
        # A refused prompt says nothing about the next one.
        self.in_a_row += not isinstance(error, Invalid)
        if self.in_a_row >= _FAILURES_IN_A_ROW:
            self.stopped = f"{self.in_a_row} requests in a row failed: {error}"

    async def _request(self, prompt: Prompt, sample: int) -> tuple[ServerAnswer, Completion]:
        body: dict[str, Any] = {
            "model": self.request.spec.id,
            "messages": as_dicts(prompt.messages),
            **self.request.parameters,
        }
        if "seed" in body:
            body["seed"] += sample
        with_logprobs = self.with_logprobs
        began = time.perf_counter()
        try:
            answer = await self._send(body | ({"logprobs": True} if with_logprobs else {}))
        except Invalid:
            if not with_logprobs:
                raise
            answer = await self._send(body)
            self.with_logprobs = False  # the server refused the log-probabilities
        if answer.model not in (None, self.request.spec.id):
            raise Unavailable(f"The fallback {answer.model} answered instead; its answer is not recorded.")
        return answer, read_completion(answer.json, time.perf_counter() - began)

    async def _send(self, body: Mapping[str, Any]) -> ServerAnswer:
        for attempt in range(ATTEMPTS):
            try:
                return await self.server.send("/chat/completions", body)
            except ParleyError as error:
                wait = retry_delay(error, attempt)
                if wait is None or attempt == ATTEMPTS - 1 or self.stopped:
                    raise
                await asyncio.sleep(wait)
        raise AssertionError("the loop returns or raises")

    async def _write_continuously(self) -> None:
        # Whatever arrived during a write goes into the next: one flush to the disk for many answers.
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            pending = self._take_pending()
            await asyncio.shield(asyncio.to_thread(self._write, pending))
            for _, stored in pending:
                if not stored.done():
                    stored.set_result(None)

    def _take_pending(self) -> list[tuple[RecordedAnswerRow, asyncio.Future[None]]]:
        pending, self._pending = self._pending, []
        return pending

    def _write(self, pending: Sequence[tuple[RecordedAnswerRow, asyncio.Future[None]]]) -> None:
        if pending:
            store_answers(self.database, [row for row, _ in pending])

    def _report(self) -> None:
        if self.progress:
            total = len(self.request.prompts) * self.request.samples
            self.progress(Progress(self.stored + self.asked, total, self.stored, self.failed))


def _logprobs(answer: object) -> list[Any] | None:
    """`logprobs.content` as the server sent it, but for numbers that are not finite; None without log-probabilities."""
    assert isinstance(answer, dict), "read_completion has checked it"
    return _finite((answer["choices"][0].get("logprobs") or {}).get("content") or None)


def _finite(value: Any) -> Any:
    """The value with None for infinite numbers and NaN, which JSON does not have and PostgreSQL refuses."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not isfinite(value) else value
