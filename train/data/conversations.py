"""The nouns of training data: conversations with or without tools, examples, preference pairs, and problems.

Pure data. It knows nothing of files, tokens or models.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.messages import Message

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class ToolCall:
    """One call that the assistant makes. `arguments` is JSON text, as the API has it."""

    id: str
    name: str
    arguments: str


class ToolUse(Message):
    """What the assistant says when it calls tools; `content` is empty where it only calls."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    calls: tuple[ToolCall, ...]


@dataclass(frozen=True)
class ToolResult:
    """What a tool gave back for the call `call_id`."""

    content: str
    call_id: str
    name: str | None = None
    role: Literal["tool"] = "tool"


Said = Message | ToolResult


@dataclass(frozen=True)
class Conversation:
    """What was said, in order. A conversation of several turns stays whole.

    `tools` are the tools that the assistant may call, each the JSON text of one `{"type": "function", …}`.
    """

    messages: tuple[Said, ...]
    tools: tuple[str, ...] = ()

    def as_dicts(self) -> list[dict[str, Any]]:
        """The messages as the API has them: a tool call's arguments are text."""
        return dicts(self.messages)

    def for_template(self) -> list[dict[str, Any]]:
        """The messages as a chat template takes them: arguments are objects, and no content is None."""
        return dicts(self.messages, template=True)

    def tool_dicts(self) -> list[dict[str, Any]] | None:
        """The tools as objects; None where there are none, as chat templates want it."""
        return [json.loads(tool) for tool in self.tools] or None

    @property
    def prompt(self) -> tuple[Said, ...]:
        """Everything before the last assistant message: what a model would be asked."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].role == "assistant":
                return self.messages[:position]
        return self.messages


@dataclass(frozen=True)
class Example:
    """One conversation to learn from.

    `line` is where it begins in its file, counted from 1. `unweighted` holds the positions of assistant messages
    that carry `"weight": 0`: they are read as context, and nothing is learnt from them. `metadata` holds the other
    fields of its row (a CSV's other columns, say), as text, by which a split can be stratified.
    """

    line: int
    conversation: Conversation
    unweighted: frozenset[int] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def learnt(self) -> tuple[int, ...]:
        """Positions of the messages that are learnt."""
        return tuple(
            position
            for position, message in enumerate(self.conversation.messages)
            if message.role == "assistant" and position not in self.unweighted
        )

    def per_turn(self) -> "tuple[Example, ...]":
        """One example for each learnt answer, with the whole context before it; only that answer is learnt."""
        messages = self.conversation.messages
        return tuple(
            Example(
                self.line,
                Conversation(messages[: position + 1], self.conversation.tools),
                frozenset(place for place in range(position) if messages[place].role == "assistant"),
                self.metadata,
            )
            for position in self.learnt
        )


@dataclass(frozen=True)
class Preference:
    """A preference pair for DPO: what was asked, an answer that is preferred and one that is not.

    `prompt` ends with a user message or a tool's result; `line` is where the pair begins in its file, counted from 1.
    """

    line: int
    prompt: tuple[Said, ...]
    chosen: tuple[Said, ...]
    rejected: tuple[Said, ...]
    tools: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def preferred(self) -> Example:
        """The example that the preferred answer makes; only that answer is learnt."""
        messages = (*self.prompt, *self.chosen)
        before = frozenset(place for place in range(len(self.prompt)) if messages[place].role == "assistant")
        return Example(self.line, Conversation(messages, self.tools), before, self.metadata)


@dataclass(frozen=True)
class Problem:
    """What is wrong at one place in the data, and what to do about it.

    `line` counts from 1; 0 speaks of the whole file. An example with an error is left out, one with a warning is
    used. Every example that is left out has its problem here: nothing is dropped in silence. `code` names the kind of
    problem for programs, such as "near-duplicate", and does not change between releases.
    """

    line: int
    severity: Severity
    message: str
    mend: str
    code: str = ""


def dicts(messages: Sequence[Said], *, template: bool = False) -> list[dict[str, Any]]:
    """Messages as the API has them or, with `template`, as chat templates (and so vLLM) do."""
    return [_dict(message, template) for message in messages]


def _dict(message: Said, template: bool) -> dict[str, Any]:
    if isinstance(message, ToolResult):
        named = {"name": message.name} if message.name else {}
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.content} | named
    if not isinstance(message, ToolUse):
        return {"role": message.role, "content": message.content}
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments) if template else call.arguments},
        }
        for call in message.calls
    ]
    content = message.content if message.content or template else None
    return {"role": "assistant", "content": content, "tool_calls": calls}
