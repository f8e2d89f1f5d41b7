"""A task: samples to ask models, with the references for their answers; a name, and a hash that goes into results."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.scorers.sample import Sample
from models.chat.messages import Message, as_dicts, last_question, read_api_message
from models.errors import Invalid


@dataclass(frozen=True)
class TaskSample:
    """One question with the reference for its answer. `id` is the row's own, or its number.

    `turn` counts the turns of a conversation from 1. A later turn follows the sample before it: its `messages` are the
    user's next message, and the conversation until then is each model's own.
    """

    id: str
    messages: tuple[Message, ...]
    sample: Sample
    turn: int = 1

    @property
    def question(self) -> str:
        """The last user turn."""
        return last_question(self.messages)

    def to_json(self) -> dict[str, Any]:
        """The sample as plain JSON values; the task's hash is over these."""
        sample = self.sample
        return {
            "id": self.id,
            "messages": as_dicts(self.messages),
            "expected": list(sample.accepted),
            "topics": [list(group) for group in sample.topics],
            "category": sample.category,
            "group": sample.prompt,
            "metadata": dict(sample.metadata),
        } | ({"turn": self.turn} if self.turn > 1 else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "TaskSample":
        """The sample that `to_json` wrote."""
        expected = row["expected"]
        sample = Sample(
            prompt=row["group"],
            expected=expected[0] if expected else None,
            topics=tuple(tuple(group) for group in row["topics"]),
            category=row["category"],
            also=tuple(expected[1:]),
            metadata=row["metadata"],
        )
        messages = tuple(read_api_message(message) for message in row["messages"])
        return cls(row["id"], messages, sample, row.get("turn", 1))


@dataclass(frozen=True)
class BadRow:
    """A row that is not a sample: its place, what is wrong, and how to fix it."""

    place: str
    problem: str
    fix: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}. {self.fix}"


@dataclass(frozen=True)
class Task:
    """Samples under a name. Tasks with the same hash have the same samples, whatever their names."""

    name: str
    source: str
    samples: tuple[TaskSample, ...]
    bad: tuple[BadRow, ...] = ()
    hash: str = field(init=False)

    def __post_init__(self) -> None:
        content = json.dumps([sample.to_json() for sample in self.samples], ensure_ascii=True, sort_keys=True)
        object.__setattr__(self, "hash", hashlib.sha256(content.encode()).hexdigest())

    def first(self, count: int | None) -> "Task":
        """A task of the first `count` rows, with all their turns; its hash is its own."""
        if count is not None and count < 1:
            raise Invalid("The limit must be 1 or more.", param="limit")
        starts = [place for place, sample in enumerate(self.samples) if sample.turn == 1]
        if count is None or count >= len(starts):
            return self
        return Task(self.name, self.source, self.samples[: starts[count]], self.bad)


def group_turns(samples: Sequence[TaskSample]) -> list[list[int]]:
    """The places of the samples, grouped by conversation and in order."""
    groups: list[list[int]] = []
    for place, sample in enumerate(samples):
        if sample.turn == 1 or not groups:
            groups.append([])
        groups[-1].append(place)
    return groups


def request_messages(samples: Sequence[TaskSample], texts: Sequence[str | None], place: int) -> tuple[Message, ...]:
    """A model's request at a place: its own conversation so far, then the user's message.

    Args:
        texts: the model's answers, in the order of the samples.
    """
    history: list[Message] = []
    for before in range(place - samples[place].turn + 1, place):
        history += [*samples[before].messages, Message(role="assistant", content=texts[before] or "")]
    return (*history, *samples[place].messages)


def prompt_hash(messages: Sequence[Message]) -> str:
    """The SHA-256 of a request's messages."""
    return hashlib.sha256(json.dumps(as_dicts(messages), ensure_ascii=True).encode()).hexdigest()
