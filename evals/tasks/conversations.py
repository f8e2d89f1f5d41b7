"""Conversations of several turns, one with each model: how far each has come, and what is asked next. It asks nobody.

A turn's question holds the model's own answers before it, so it is only known once they are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evals.scorers.catalog import Answer
from evals.tasks.answer_cache import Kept, Outcome
from evals.tasks.task import TaskSample, conversations, prompt_hash
from models.messages import Message


@dataclass
class Thread:
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

    def outcome(self, turn: int, model: str, kept: Kept) -> Outcome:
        """What became of a turn, counted from 0."""
        if turn < len(self.keys):
            return kept.outcomes[model, self.keys[turn]]
        first = turn == len(self.keys)
        return Outcome(error=self.error if first else f"The turn before it has no answer: {self.error}")


@dataclass(frozen=True)
class Asking:
    """The different conversations of a task: samples that ask the same share one. `where`: of each sample, which
    conversation it belongs to and which of its turns it is."""

    turns: tuple[tuple[tuple[Message, ...], ...], ...]
    where: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, samples: Sequence[TaskSample]) -> "Asking":
        number: dict[tuple[tuple[Message, ...], ...], int] = {}
        where: list[tuple[int, int]] = []
        for places in conversations(samples):
            turns = tuple(samples[place].messages for place in places)
            thread = number.setdefault(turns, len(number))
            where += [(thread, turn) for turn in range(len(turns))]
        return cls(tuple(number), tuple(where))

    def spread(self, model: str, threads: Sequence[Thread], kept: Kept) -> tuple[Outcome, ...]:
        """Every sample's outcome at a model."""
        return tuple(threads[thread].outcome(turn, model, kept) for thread, turn in self.where)


def go_on(kept: Kept, threads: Mapping[str, Sequence[Thread]]) -> None:
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
