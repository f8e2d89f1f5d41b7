"""Asks a served model many questions concurrently, and collects answers, tokens and time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench.progress import print_progress
from models.chat.messages import Completer, Completion, Message
from models.errors import ParleyError

AT_ONCE = 32  # questions in flight, also for the throughput figures


@dataclass(frozen=True)
class Answers:
    """One model's answers in the order of the questions; None for a failed one. `cut`: answers cut at max_tokens."""

    answers: list[str | None]
    tokens: int
    seconds: float
    cut: int

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens per second over all questions."""
        return round(self.tokens / self.seconds, 1)


async def ask_all(
    complete: Completer, questions: Sequence[Sequence[Message]], *, max_tokens: int, at_once: int = AT_ONCE
) -> Answers:
    """Asks every question greedily, `at_once` at a time. A failure is printed, and its answer is None."""
    slots = asyncio.Semaphore(at_once)

    async def answer(messages: Sequence[Message]) -> Completion | None:
        async with slots:
            try:
                return await complete(messages, temperature=0.0, max_tokens=max_tokens)
            except ParleyError as error:
                print_progress(f"no answer: {error}")
                return None

    began = time.perf_counter()
    completions = await asyncio.gather(*(answer(messages) for messages in questions))
    return Answers(
        answers=[completion.text if completion else None for completion in completions],
        tokens=sum(completion.completion_tokens or 0 for completion in completions if completion),
        seconds=time.perf_counter() - began,
        cut=sum(completion.finish_reason == "length" for completion in completions if completion),
    )
