"""Multi-turn conversations, one with each model: the answers so far, and the next request.

A turn's request contains the model's own earlier answers, so it is known only once they are there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evals.scorers.catalog import Answer
from evals.tasks.answer_cache import AnswerCache, Outcome
from evals.tasks.task import TaskSample, group_turns, prompt_hash
from models.chat.messages import Message


@dataclass
class Conversation:
    """One conversation with one model. `hashes` are the prompt hashes of the turns that have an answer.

    `messages` is the next request, and `hash` its prompt hash.
    """

    turns: tuple[tuple[Message, ...], ...]
    hashes: list[str] = field(default_factory=list)
    messages: tuple[Message, ...] = field(init=False)
    hash: str = field(init=False)
    error: str | None = None
    failed: int = 0

    def __post_init__(self) -> None:
        self.messages = self.turns[0]
        self.hash = prompt_hash(self.messages)

    @property
    def left(self) -> int:
        """How many turns have not been requested yet."""
        return 0 if self.error is not None else len(self.turns) - len(self.hashes)

    @property
    def done(self) -> bool:
        """Whether every turn has an answer, or one failed."""
        return self.left == 0

    def add(self, answer: Answer) -> None:
        """Adds the answer to the current request, and builds the next request from it."""
        self.hashes.append(self.hash)
        if not self.done:
            reply = Message(role="assistant", content=answer.text)
            self.messages = (*self.messages, reply, *self.turns[len(self.hashes)])
            self.hash = prompt_hash(self.messages)

    def fail(self, error: str) -> None:
        """Records that a turn has no answer: the turns after it cannot be requested."""
        self.failed = self.left
        self.error = error

    def outcome(self, turn: int, model: str, cache: AnswerCache) -> Outcome:
        """The outcome of a turn, counted from 0."""
        if turn < len(self.hashes):
            return cache.outcomes[model, self.hashes[turn]]
        first = turn == len(self.hashes)
        return Outcome(error=self.error if first else f"The previous turn has no answer: {self.error}")


@dataclass(frozen=True)
class ConversationPlan:
    """The distinct conversations of a task: samples with the same requests share one.

    `positions` has for each sample the number of its conversation and of its turn.
    """

    turns: tuple[tuple[tuple[Message, ...], ...], ...]
    positions: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, samples: Sequence[TaskSample]) -> "ConversationPlan":
        """The plan for these samples."""
        number: dict[tuple[tuple[Message, ...], ...], int] = {}
        positions: list[tuple[int, int]] = []
        for places in group_turns(samples):
            turns = tuple(samples[place].messages for place in places)
            conversation = number.setdefault(turns, len(number))
            positions += [(conversation, turn) for turn in range(len(turns))]
        return cls(tuple(number), tuple(positions))

    def outcomes(self, model: str, conversations: Sequence[Conversation], cache: AnswerCache) -> tuple[Outcome, ...]:
        """Every sample's outcome at a model."""
        return tuple(conversations[number].outcome(turn, model, cache) for number, turn in self.positions)


def replay_stored(cache: AnswerCache, conversations: Mapping[str, Sequence[Conversation]]) -> None:
    """Advances each conversation through its stored answers, one turn at a time."""
    active = [(model, conversation) for model, all_ in conversations.items() for conversation in all_]
    while active:
        cache.read(list(conversations), list({conversation.hash for _, conversation in active}))
        answered = [
            (model, conversation) for model, conversation in active if (model, conversation.hash) in cache.outcomes
        ]
        for model, conversation in answered:
            answer = cache.outcomes[model, conversation.hash].answer
            assert answer is not None, "only answers are stored"
            conversation.add(answer)
        active = [(model, conversation) for model, conversation in answered if not conversation.done]
