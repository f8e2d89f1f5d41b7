"""Streamed answers: paced, side by side, stopped at once; an error of one answer does not affect the other."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from models.chat.messages import Completion, Message
from models.errors import Unavailable
from ui.backend.streaming import AnswerRequest, StopSignals, stream_answers

MESSAGES = [Message(role="user", content="?")]


class Scripted:
    """A completer that streams `pieces` words, one every `every_s` seconds, and then raises `error`, if any."""

    def __init__(self, model: str, pieces: int, every_s: float = 0.0, error: Exception | None = None) -> None:
        self.model, self.pieces, self.every_s, self.error = model, pieces, every_s, error
        self.closed = False

    async def stream(self, messages: Sequence[Message], *, on_finish: Any = None, **options: Any) -> AsyncIterator[str]:
        try:
            for _ in range(self.pieces):
                await asyncio.sleep(self.every_s)
                yield "word "
            if self.error:
                raise self.error
            on_finish(Completion(text="", completion_tokens=2 * self.pieces))
        finally:
            self.closed = True


def requests(*scripts: Scripted) -> list[AnswerRequest]:
    return [AnswerRequest(script, MESSAGES) for script in scripts]  # pyrefly: ignore -- a script stands for a completer


@pytest.mark.long
async def test_updates_are_batched():
    updates = [sides[0].text async for sides in stream_answers(requests(Scripted("m", 400, 0.002)))]
    assert updates[-1] == "word " * 400
    assert 5 < len(updates) < 20  # about a second of tokens at 12 updates a second


async def test_answers_stream_together_and_fail_separately():
    scripts = Scripted("good", 20, 0.01), Scripted("bad", 3, 0.01, Unavailable("The engine is gone."))
    last = [sides async for sides in stream_answers(requests(*scripts))][-1]
    assert last[0].text == "word " * 20
    assert last[0].tokens == 40  # as the server counted
    assert last[0].tokens_per_second
    assert last[1].text == "word " * 3
    assert last[1].error == "The engine is gone."


async def test_an_unexpected_error_hides_its_internals():
    last = [sides async for sides in stream_answers(requests(Scripted("m", 0, 0, ValueError("secret insides"))))][-1]
    assert "secret" not in last[0].error
    assert last[0].done


async def test_stop_ends_at_once_and_closes_the_stream():
    signals, script = StopSignals(), Scripted("m", 1000, 0.01)
    stopped = signals.start("browser")
    began = time.perf_counter()
    async for sides in stream_answers(requests(script), stopped):
        if len(sides[0].text) > 20:
            signals.stop("browser")
    await asyncio.sleep(0.05)
    assert time.perf_counter() - began < 2
    assert script.closed


async def test_closing_the_page_closes_the_stream():
    script = Scripted("m", 1000, 0.01)
    stream = stream_answers(requests(script))
    await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined] -- it is a generator
    await asyncio.sleep(0.05)
    assert script.closed


def test_a_new_stream_of_a_session_signals_the_old_one():
    signals = StopSignals()
    first = signals.start("browser")
    second = signals.start("browser")
    assert first.is_set()
    signals.finish("browser", first)
    signals.stop("browser")
    assert second.is_set()
    signals.stop("nobody")


async def test_a_discarded_stream_is_no_longer_current_and_is_waited_for():
    signals = StopSignals()
    signal = signals.start("browser")
    assert signals.is_current("browser", signal)
    clearing = asyncio.create_task(signals.discard("browser"))
    await signal.wait()
    assert not signals.is_current("browser", signal)
    assert not clearing.done()  # an update of the stream may still be on its way to the browser
    assert not signals.finish("browser", signal)
    await clearing
    later = signals.start("browser")
    assert signals.finish("browser", later)
    await signals.discard("nobody")
