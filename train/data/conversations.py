"""The nouns of training data: a conversation, an example that carries it, and a problem that was found in it.

Pure data. It knows nothing of files, tokens or models.
"""

from dataclasses import dataclass
from typing import Literal

from models.messages import Message

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Conversation:
    """What was said, in order. A conversation of several turns stays whole."""

    messages: tuple[Message, ...]

    def as_dicts(self) -> list[dict[str, str]]:
        """The messages as a chat template and the API have them."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last assistant message: what a model would be asked."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].role == "assistant":
                return self.messages[:position]
        return self.messages


@dataclass(frozen=True)
class Example:
    """One conversation to learn from.

    `line` is where it begins in its file, counted from 1. `unweighted` holds the positions of assistant messages
    that carry `"weight": 0`: they are read as context, and nothing is learnt from them.
    """

    line: int
    conversation: Conversation
    unweighted: frozenset[int] = frozenset()

    @property
    def learnt(self) -> tuple[int, ...]:
        """Positions of the messages that are learnt."""
        return tuple(
            position
            for position, message in enumerate(self.conversation.messages)
            if message.role == "assistant" and position not in self.unweighted
        )


@dataclass(frozen=True)
class Preference:
    """A preference pair for DPO: what was asked, an answer that is preferred and one that is not.

    `prompt` ends with a user message; `line` is where the pair begins in its file, counted from 1.
    """

    line: int
    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place in the data, and what to do about it.

    `line` counts from 1; 0 speaks of the whole file. An example with an error is left out, one with a warning is
    used. Every example that is left out has its problem here: nothing is dropped in silence.
    """

    line: int
    severity: Severity
    message: str
    mend: str
