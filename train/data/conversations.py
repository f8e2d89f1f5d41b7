"""The types of training data: conversations with or without tools, examples, preference pairs, and problems."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.chat.messages import Message

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class ToolCall:
    """A tool call by the assistant. `arguments` is JSON text, as in the API."""

    id: str
    name: str
    arguments: str


class ReasonedAnswer(Message):
    """An assistant message with the reasoning before it (`reasoning_content` in many APIs)."""

    role: Literal["assistant"] = "assistant"
    reasoning: str


class ToolUse(Message):
    """An assistant message with tool calls; `content` and `reasoning` may be empty."""

    role: Literal["assistant"] = "assistant"
    content: str = ""
    calls: tuple[ToolCall, ...]
    reasoning: str = ""


class TextParts(Message):
    """A message whose content is several text parts. `content` joins them with a newline, as an engine does."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class ToolResult:
    """The result of the tool call `call_id`."""

    content: str
    call_id: str
    name: str | None = None
    role: Literal["tool"] = "tool"


ChatMessage = Message | ToolResult


@dataclass(frozen=True)
class Conversation:
    """The messages in order, and the tools that the assistant may call, each as JSON text `{"type": "function", …}`."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[str, ...] = ()

    def as_dicts(self) -> list[dict[str, Any]]:
        """The messages in the API's format: the arguments of a tool call are text."""
        return message_dicts(self.messages)

    def for_template(self) -> list[dict[str, Any]]:
        """The messages as an engine takes them: arguments are objects, content is never None, and several text parts
        are a list.
        """
        return message_dicts(self.messages, template=True)

    def tool_dicts(self) -> list[dict[str, Any]] | None:
        """The tools as objects; None if there are none, as chat templates expect."""
        return [json.loads(tool) for tool in self.tools] or None

    @property
    def prompt(self) -> tuple[ChatMessage, ...]:
        """Everything before the last assistant message."""
        for position in range(len(self.messages) - 1, -1, -1):
            if self.messages[position].role == "assistant":
                return self.messages[:position]
        return self.messages


@dataclass(frozen=True)
class Example:
    """One conversation to train on.

    `line` is its first line in the file, counted from 1. `unweighted` has the positions of assistant messages with
    `"weight": 0`: they are context without loss. `metadata` has the other fields of the row, such as the other columns
    of a CSV, as text; a split can be stratified by them. `label` is set in data for KTO: whether the answer is
    good.
    """

    line: int
    conversation: Conversation
    unweighted: frozenset[int] = frozenset()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
    label: bool | None = None

    @property
    def learnt(self) -> tuple[int, ...]:
        """The positions of the messages with loss."""
        return tuple(
            position
            for position, message in enumerate(self.conversation.messages)
            if message.role == "assistant" and position not in self.unweighted
        )

    def per_turn(self) -> "tuple[Example, ...]":
        """One example for each learnt answer, with all the messages before it. Only that answer has loss."""
        messages = self.conversation.messages
        return tuple(
            Example(
                self.line,
                Conversation(messages[: position + 1], self.conversation.tools),
                frozenset(place for place in range(position) if messages[place].role == "assistant"),
                self.metadata,
                self.label,
            )
            for position in self.learnt
        )


@dataclass(frozen=True)
class Preference:
    """A preference pair for DPO: a prompt, the chosen answer and the rejected one.

    `prompt` ends with a user message or a tool result. `line` is the first line of the pair in its file, from 1.
    """

    line: int
    prompt: tuple[ChatMessage, ...]
    chosen: tuple[ChatMessage, ...]
    rejected: tuple[ChatMessage, ...]
    tools: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def preferred(self) -> Example:
        """The chosen answer as an example. Only that answer has loss."""
        messages = (*self.prompt, *self.chosen)
        before = frozenset(place for place in range(len(self.prompt)) if messages[place].role == "assistant")
        return Example(self.line, Conversation(messages, self.tools), before, self.metadata)


@dataclass(frozen=True)
class Problem:
    """A problem in one place of the data, and what to do about it (`mend`).

    `line` counts from 1; 0 is the whole file. An example with an error is left out, one with a warning is used. Every
    example that is left out has a problem. `code` is the kind of problem for programs, such as "near-duplicate", and
    does not change between releases.
    """

    line: int
    severity: Severity
    message: str
    mend: str
    code: str = ""


def reasoning_of(message: ChatMessage) -> str:
    """The reasoning before an assistant message, or ""."""
    return getattr(message, "reasoning", "")


def message_dicts(messages: Sequence[ChatMessage], *, template: bool = False) -> list[dict[str, Any]]:
    """Messages in the API's format or, with `template`, as chat templates (and vLLM) take them."""
    return [_dict(message, template) for message in messages]


def _dict(message: ChatMessage, template: bool) -> dict[str, Any]:
    if isinstance(message, ToolResult):
        named = {"name": message.name} if message.name else {}
        return {"role": "tool", "tool_call_id": message.call_id, "content": message.content} | named
    if isinstance(message, TextParts) and template:
        return {"role": message.role, "content": [{"type": "text", "text": part} for part in message.parts]}
    reasoning = reasoning_of(message)
    # Chat templates have three names for it; vLLM passes the first two.
    names = ("reasoning_content", "reasoning", "thinking") if template else ("reasoning_content",)
    thoughts = dict.fromkeys(names, reasoning) if reasoning else {}
    if not isinstance(message, ToolUse):
        return {"role": message.role, "content": message.content} | thoughts
    calls = [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.loads(call.arguments) if template else call.arguments},
        }
        for call in message.calls
    ]
    content = message.content if message.content or template else None
    return {"role": "assistant", "content": content, "tool_calls": calls} | thoughts
