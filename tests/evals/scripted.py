"""Scripted completers: deterministic, in process, with real text and real JSON."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

from models.chat.messages import Completer, Completion, Message, last_question


class Scripted:
    """Completers by model; each answers with a function of the question, and its calls are counted."""

    def __init__(self, answers: dict[str, Callable[[str], str]], delay_s: float = 0.0) -> None:
        self.answers = answers
        self.delay_s = delay_s
        self.calls: list[str] = []
        self.running = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, model: str) -> Completer:
        async def complete(messages: Sequence[Message], **options: Any) -> Completion:
            with self._lock:
                self.calls.append(model)
                self.running += 1
                self.most_at_once = max(self.most_at_once, self.running)
            try:
                await asyncio.sleep(self.delay_s)
                return Completion(text=self.answers[model](last_question(messages)))
            finally:
                with self._lock:
                    self.running -= 1

        return complete


def echo(*models: str, delay_s: float = 0.0) -> Scripted:
    """Models that answer with a text of their own that does not name them."""
    marks = {model: "αβγδεζ"[i] for i, model in enumerate(models)}
    return Scripted({m: lambda question, m=m: f"{marks[m]}: {question}" for m in models}, delay_s)
