"""The functions and the ticket of support-tools, read from tools.toml, and its requests with their right answers.

A model that is fine-tuned for functions of its own knows their names and arguments: it need not copy them from the list
in the request, only see which of them are there. Arguments are copied from the conversation.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).parent / "tools.toml"
Turn = dict[str, Any]
OTHER = "other"  # the topic of what belongs to none


@dataclass(frozen=True)
class Function:
    """A function that a request offers: its name, what it does, and its arguments."""

    name: str
    about: str
    arguments: tuple[str, ...]
    intents: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    def as_tool(self) -> dict[str, Any]:
        """The function as a tool of the API."""
        properties = {name: {"type": "boolean" if name == "urgent" else "string"} for name in self.arguments}
        parameters = {"type": "object", "properties": properties, "required": list(self.arguments)}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.about, "parameters": parameters},
        }


@dataclass(frozen=True)
class ToolRequest:
    """A request and its right answer: a call, a JSON object with `fields`, or a text.

    `kind` names what it measures. `holds`: what a text must contain.
    """

    kind: str
    messages: tuple[Turn, ...]
    tools: tuple[Function, ...] = ()
    call: Mapping[str, Any] | None = None
    fields: Mapping[str, Any] | None = None
    text: str = ""
    holds: tuple[str, ...] = field(default=())

    def answer(self) -> Turn:
        """The right answer, as a message."""
        if self.call is not None:
            return call_message(self.call["name"], self.call["arguments"])
        content = self.text if self.fields is None else _as_engines_write(self.fields)
        return {"role": "assistant", "content": content}

    def row(self) -> dict[str, Any]:
        """The request with its answer, as a row of a chat file."""
        tools = {"tools": [function.as_tool() for function in self.tools]} if self.tools else {}
        return {"messages": [*self.messages, self.answer()], **tools}


def call_message(name: str, arguments: Mapping[str, Any]) -> Turn:
    """An assistant's message with one call."""
    text = json.dumps(arguments, ensure_ascii=False)
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": text}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def _as_engines_write(fields: Mapping[str, Any]) -> str:
    """JSON without blanks: under a schema an engine generates no others, and the model must know its tokens."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


@cache
def load_tools() -> Mapping[str, Any]:
    """The content of tools.toml."""
    return tomllib.loads(_FILE.read_text("utf-8"))


@cache
def functions() -> tuple[Function, ...]:
    """The functions that support-tools calls."""
    return tuple(
        Function(row["name"], row["about"], (row["argument"],), tuple(row["intents"]), tuple(row["results"]))
        for row in load_tools()["function"]
    )


def function_for(intent: str) -> Function | None:
    """The function that answers the questions of an intent, if there is one."""
    return next((function for function in functions() if intent in function.intents), None)


def topic_of(intent: str) -> str:
    """The ticket's topic for an intent."""
    topics = load_tools()["ticket"]["topics"]
    return next((topic for topic, intents in topics.items() if intent in intents), OTHER)
