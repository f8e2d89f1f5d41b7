"""The sample that an answer is scored against, and the type of a text scorer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.chat.messages import Message


@dataclass(frozen=True)
class Sample:
    """The reference for one answer. Each topic is a group of keywords, any one of which covers it.

    `prompt` identifies the question: samples that share it are one cluster. `also` are further correct answers; the
    best match counts. `messages` is the model's request where it is known: its conversation, then the user's message.
    """

    prompt: str = ""
    expected: str | None = None
    topics: tuple[tuple[str, ...], ...] = ()
    category: str | None = None
    also: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every correct answer, the expected one first; empty if none is known."""
        return () if self.expected is None else (self.expected, *self.also)


Scorer = Callable[[Sample, str], float | None]
"""A score of an answer, or None if the sample has no reference for it."""
