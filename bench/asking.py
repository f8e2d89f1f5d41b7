"""Asks a served model many questions at once, and counts: what the benchmarks that score answers share."""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import ParleyError
from models.messages import Completer, Completion, Message

AT_ONCE = 32  # questions in flight: what the throughput figures are taken at


@dataclass(frozen=True)
class Asked:
    """One model's answers, in the order of the questions; None where it failed. Tokens are completion tokens."""

    answers: list[str | None]
    tokens: int
    seconds: float
    cut: int

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens for each second, all questions together."""
        return round(self.tokens / self.seconds, 1)


async def ask(
    complete: Completer, questions: Sequence[Sequence[Message]], *, max_tokens: int, at_once: int = AT_ONCE
) -> Asked:
    """Asks every question, `at_once` at a time, greedily. A question that fails is told and counted, and is None."""
    slots = asyncio.Semaphore(at_once)

    async def one(messages: Sequence[Message]) -> Completion | None:
        async with slots:
            try:
                return await complete(messages, temperature=0.0, max_tokens=max_tokens)
            except ParleyError as error:
                say(f"not answered: {error}")
                return None

    began = time.perf_counter()
    found = await asyncio.gather(*(one(messages) for messages in questions))
    return Asked(
        answers=[completion.text if completion else None for completion in found],
        tokens=sum(completion.completion_tokens or 0 for completion in found if completion),
        seconds=time.perf_counter() - began,
        cut=sum(completion.finish_reason == "length" for completion in found if completion),
    )


def say(line: str) -> None:
    """Progress, on standard error, so that standard output is the table and the JSON line."""
    print(line, file=sys.stderr, flush=True)
