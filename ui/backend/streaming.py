"""Answers as they come, at a pace that a browser can follow: 12 updates a second, however fast the tokens are.

One clock for all sides, so that two answers side by side move together. It knows nothing of Gradio.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.completer import GatewayCompleter
from models.messages import Completion, Message
from ui.backend.context import friendly

# An update costs about 0.33 ms of CPU in Gradio; 12 a second look smooth.
_TICK_S = 1 / 12


@dataclass
class Side:
    """One answer on its way. Times in seconds since it was asked; `error` is one line for a person."""

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
        """Tokens so far: as the server counted them, else pieces of the stream, which are tokens on most servers."""
        counted = self.completion.completion_tokens if self.completion else None
        return counted if counted is not None else self.pieces

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens for each second after the first one came; None before it can be said."""
        generating = self.seconds - (self.first_s or self.seconds)
        return (self.tokens - 1) / generating if self.tokens > 1 and generating > 0.02 else None


@dataclass(frozen=True)
class Asked:
    """One model to ask, and what to say to it."""

    completer: GatewayCompleter
    messages: Sequence[Message]
    options: dict[str, Any] = field(default_factory=dict)


async def answers(asked: Sequence[Asked], stopped: asyncio.Event | None = None) -> AsyncIterator[list[Side]]:
    """Ask all at once; yields every side as it stands, at most 12 times a second, and once more at the end.

    It ends when all sides are done, or soon after `stopped` is set. Errors are in the sides, never raised.
    """
    sides = [Side(one.completer.model) for one in asked]
    tasks = [asyncio.create_task(_follow(one, side)) for one, side in zip(asked, sides, strict=True)]
    everything = asyncio.ensure_future(asyncio.wait(tasks))
    stop = asyncio.ensure_future((stopped or asyncio.Event()).wait())
    shown: list[tuple[int, bool, str]] = []
    try:
        while not everything.done() and not stop.done():
            await asyncio.wait({everything, stop}, timeout=_TICK_S, return_when=asyncio.FIRST_COMPLETED)
            now = [(len(side.text), side.done, side.error) for side in sides]
            if now != shown and not everything.done() and not stop.done():
                shown = now
                yield sides
        yield sides
    finally:
        # Closing a stream early is what stops the model.
        for task in (*tasks, stop):
            task.cancel()
        everything.cancel()


async def _follow(one: Asked, side: Side) -> None:
    began = time.perf_counter()

    def finished(completion: Completion) -> None:
        side.completion = completion

    try:
        async for piece in one.completer.stream(one.messages, on_finish=finished, **one.options):
            side.seconds = time.perf_counter() - began
            side.first_s = side.seconds if side.first_s is None else side.first_s
            side.pieces += 1
            side.text += piece
    except Exception as error:  # whatever a side died of, the other sides go on
        side.error = friendly(error)
    side.seconds = side.seconds or time.perf_counter() - began
    side.done = True


class Stops:
    """Which streams people have asked to stop: one event for each browser session that streams now."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def begin(self, session: str | None) -> asyncio.Event:
        """Note that this session streams; an older stream of the same session is told to stop."""
        self.stop(session)
        event = self._events[session or ""] = asyncio.Event()
        return event

    def stop(self, session: str | None) -> None:
        """Tell this session's stream to stop; nothing happens where there is none."""
        if (event := self._events.get(session or "")) is not None:
            event.set()

    def drop(self, session: str | None) -> None:
        """Stop this session's stream and disown it: what it still has to say is of a conversation that is gone."""
        if (event := self._events.pop(session or "", None)) is not None:
            event.set()

    def holds(self, session: str | None, event: asyncio.Event) -> bool:
        """Whether this stream is still the session's: else what it says must not be shown any more."""
        return self._events.get(session or "") is event

    def end(self, session: str | None, event: asyncio.Event) -> bool:
        """Forget a stream that is over; False where it was not the session's any more."""
        if not self.holds(session, event):
            return False
        del self._events[session or ""]
        return True
