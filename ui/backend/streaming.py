"""Streams answers of one or several models at a pace a browser can follow. Independent of Gradio.

All answers share one clock, so that two answers side by side move together.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from models.chat.completer import GatewayCompleter
from models.chat.messages import Completion, Message
from ui.backend.context import error_message

# An update costs Gradio about 0.33 ms of CPU; 12 a second look smooth.
_TICK_S = 1 / 12
_END_S = 2.0  # how long clearing a conversation waits for the end of its stream


@dataclass
class StreamedAnswer:
    """An answer as far as it has arrived. Times are in seconds since the request; `error` is one line for the page."""

    model: str
    text: str = ""
    first_s: float | None = None
    seconds: float = 0.0
    pieces: int = 0
    done: bool = False
    error: str = ""
    completion: Completion | None = None

    @property
    def tokens(self) -> int:
        """The server's token count; until it arrives, the pieces of the stream, which are tokens on most servers."""
        counted = self.completion.completion_tokens if self.completion else None
        return counted if counted is not None else self.pieces

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens a second after the first token; None until it can be measured."""
        generating = self.seconds - (self.first_s or self.seconds)
        return (self.tokens - 1) / generating if self.tokens > 1 and generating > 0.02 else None


@dataclass(frozen=True)
class AnswerRequest:
    """A model and what to send it."""

    completer: GatewayCompleter
    messages: Sequence[Message]
    options: dict[str, Any] = field(default_factory=dict)


async def stream_answers(
    requests: Sequence[AnswerRequest], stopped: asyncio.Event | None = None
) -> AsyncIterator[list[StreamedAnswer]]:
    """Sends all requests at once; yields all answers as they stand, at most 12 times a second and once at the end.

    It ends when all answers are done, or soon after `stopped` is set. Errors are in the answers, never raised.
    """
    answers = [StreamedAnswer(request.completer.model) for request in requests]
    tasks = [asyncio.create_task(_receive(request, answer)) for request, answer in zip(requests, answers, strict=True)]
    all_done = asyncio.ensure_future(asyncio.wait(tasks))
    stop = asyncio.ensure_future((stopped or asyncio.Event()).wait())
    shown: list[tuple[int, bool, str]] = []
    try:
        while not all_done.done() and not stop.done():
            await asyncio.wait({all_done, stop}, timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED)
            now = [(len(answer.text), answer.done, answer.error) for answer in answers]
            if now != shown and not all_done.done() and not stop.done():
                shown = now
                yield answers
        yield answers
    finally:
        # Closing a stream early is what stops the model.
        for task in (*tasks, stop):
            task.cancel()
        all_done.cancel()


async def _receive(request: AnswerRequest, answer: StreamedAnswer) -> None:
    began = time.perf_counter()

    def on_finish(completion: Completion) -> None:
        answer.completion = completion

    try:
        async for piece in request.completer.stream(request.messages, on_finish=on_finish, **request.options):
            answer.seconds = time.perf_counter() - began
            answer.first_s = answer.seconds if answer.first_s is None else answer.first_s
            answer.pieces += 1
            answer.text += piece
    except Exception as error:  # one answer's failure must not end the others
        answer.error = error_message(error)
    answer.seconds = answer.seconds or time.perf_counter() - began
    answer.done = True


class StopSignal(asyncio.Event):
    """Set to stop a stream. `ended` is set once it has stopped and all of its updates have been yielded."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = asyncio.Event()


class StopSignals:
    """One stop signal for each browser session that streams an answer now."""

    def __init__(self) -> None:
        self._signals: dict[str, StopSignal] = {}

    def start(self, session: str | None) -> StopSignal:
        """Registers a new stream of this session and stops its older one."""
        self.stop(session)
        signal = self._signals[session or ""] = StopSignal()
        return signal

    def stop(self, session: str | None) -> None:
        """Stops this session's stream, if there is one."""
        if (signal := self._signals.get(session or "")) is not None:
            signal.set()

    async def discard(self, session: str | None) -> None:
        """Stops the stream of a session whose conversation is cleared, and waits for its end.

        Otherwise its last update could reach the browser after the cleared conversation.
        """
        if (signal := self._signals.pop(session or "", None)) is not None:
            signal.set()
            with suppress(TimeoutError):  # a browser that was closed does not read its stream to the end
                await asyncio.wait_for(signal.ended.wait(), _END_S)

    def is_current(self, session: str | None, signal: StopSignal) -> bool:
        """Whether this is still the session's stream; if not, its text must not be shown any more."""
        return self._signals.get(session or "") is signal

    def finish(self, session: str | None, signal: StopSignal) -> bool:
        """Removes a stream that has ended; False if it was no longer the session's."""
        signal.ended.set()
        if not self.is_current(session, signal):
            return False
        del self._signals[session or ""]
        return True
