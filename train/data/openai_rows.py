"""Rows as OpenAI's fine-tuning has them: chat messages with tools and weights, and preference pairs for DPO.

Here is what the format says. What a conversation must look like to be learnt from (roles in order, nothing empty) is
`checks`' business. Format: https://platform.openai.com/docs/guides/supervised-fine-tuning and …/direct-preference-
optimization.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.messages import Message
from train.data.conversations import (
    Conversation,
    Example,
    Preference,
    Problem,
    Said,
    ToolCall,
    ToolResult,
    ToolUse,
)

_KNOWN = frozenset(
    {"role", "content", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio", "annotations"}
)
_SHAPE = 'write {"messages": [{"role": …, "content": …}, …]}'


class Wrong(Exception):
    """A row that cannot be read: what is wrong, what mends it, and the problem's code."""

    def __init__(self, message: str, mend: str, code: str) -> None:
        super().__init__(message)
        self.message, self.mend, self.code = message, mend, code

    def at(self, line: int) -> Problem:
        """As an error of its line."""
        return Problem(line, "error", self.message, self.mend, self.code)


@dataclass(frozen=True)
class Messages:
    """Messages that were read, the positions with weight 0, and the keys that nothing here uses."""

    messages: tuple[Said, ...]
    unweighted: frozenset[int]
    unknown: tuple[str, ...]


def chat_row(line: int, row: Mapping[str, Any]) -> Iterator[Example | Problem]:
    """`{"messages": […], "tools": […]}`.

    Raises:
        Wrong: the row cannot be read.
    """
    if not isinstance(row.get("messages"), list):
        raise Wrong("no list `messages`", _SHAPE, "wrong-type")
    said = read_messages(row["messages"])
    yield from _unknown(line, said)
    yield Example(line, Conversation(said.messages, read_tools(row)), said.unweighted, metadata_of(row, "messages"))


def preference_row(line: int, row: Mapping[str, Any]) -> Iterator[Preference | Problem]:
    """`{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}`.

    Raises:
        Wrong: the row cannot be read.
    """
    asked = row.get("input")
    if not isinstance(asked, Mapping) or not isinstance(asked.get("messages"), list):
        raise Wrong("no `input` with a list `messages`", 'write {"input": {"messages": […]}, …}', "wrong-type")
    prompt = read_messages(asked["messages"])
    sides = [_side(row, "preferred_output"), _side(row, "non_preferred_output")]
    for part in (prompt, *sides):
        yield from _unknown(line, part)
    used = ("input", "preferred_output", "non_preferred_output")
    chosen, rejected = (side.messages for side in sides)
    yield Preference(line, prompt.messages, chosen, rejected, read_tools(asked), metadata_of(row, *used))


def _side(row: Mapping[str, Any], name: str) -> Messages:
    if not isinstance(row.get(name), list):
        raise Wrong(f"no list `{name}`", f'write "{name}": [{{"role": "assistant", "content": …}}]', "wrong-type")
    return read_messages(row[name])


def read_messages(raw: list[Any]) -> Messages:
    """Messages of the API's shape; functions of the older API become tools.

    Raises:
        Wrong: one of them cannot be read; the message says which.
    """
    messages: list[Said] = []
    unweighted: set[int] = set()
    unknown: set[str] = set()
    for position, one in enumerate(raw):
        try:
            message = _message(one, messages, position)
            if _weight(one, message) == 0:
                unweighted.add(position)
        except Wrong as wrong:
            raise Wrong(f"message {position + 1}: {wrong.message}", wrong.mend, wrong.code) from wrong
        named = {"name"} if message.role == "tool" else set()
        unknown |= {str(key) for key, value in one.items() if value is not None} - _KNOWN - named
        messages.append(message)
    return Messages(tuple(messages), frozenset(unweighted), tuple(sorted(unknown)))


def read_tools(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools of a row, each as JSON text in today's shape.

    Raises:
        Wrong: they are not a list of objects with a name.
    """
    tools = row.get("tools") or row.get("functions") or []
    if isinstance(tools, str):  # a column of a CSV or Parquet file
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise Wrong("`tools` is text that is no JSON", "give a list of tools", "bad-tools") from error
    if not isinstance(tools, list):
        raise Wrong("`tools` is not a list", "give a list of tools", "bad-tools")
    # Elsewhere a tool is its function alone, as OpenAI's were at first.
    bare = [isinstance(tool, Mapping) and "name" in tool and "function" not in tool for tool in tools]
    tools = [{"type": "function", "function": tool} if one else tool for tool, one in zip(tools, bare, strict=True)]
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            mend = 'write {"type": "function", "function": {"name": …, "parameters": …}}'
            raise Wrong("a tool without a function's name", mend, "bad-tools")
    texts = tuple(json.dumps(tool, ensure_ascii=False) for tool in tools)
    for text in texts:
        whole_letters(text)
    return texts


def metadata_of(row: Mapping[str, Any], *used: str) -> dict[str, str]:
    """The other fields of a row as text; an object `metadata` is opened."""
    rest = {key: value for key, value in row.items() if key not in {*used, "tools", "functions"}}
    inner = rest.pop("metadata", None)
    if isinstance(inner, Mapping):
        rest |= inner
    elif inner is not None:
        rest["metadata"] = inner
    return {
        str(key): value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        for key, value in rest.items()
        if value is not None
    }


def text_of(content: Any) -> str:
    """A content's text, its text parts joined.

    Raises:
        Wrong: it is something else, or holds half a character.
    """
    if isinstance(content, list):
        if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
            raise Wrong("content with parts that are not text", "keep text only", "not-text")
        content = "".join(str(part.get("text", "")) for part in content)
    if not isinstance(content, str):
        raise Wrong(f"content is {type(content).__name__}, not text", "give the content as a string", "wrong-type")
    return whole_letters(content)


def whole_letters(text: str) -> str:
    """The same text.

    Raises:
        Wrong: it holds half of a surrogate pair, which no UTF-8 can hold and so no tokenizer takes.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        wrong, mend = "content holds half a character (\\ud800 to \\udfff)", "mend the export: an emoji was cut in two"
        raise Wrong(wrong, mend, "half-character") from error
    return text


def _message(raw: Any, before: list[Said], position: int) -> Said:
    if not isinstance(raw, Mapping):
        raise Wrong("not an object", 'write {"role": …, "content": …}', "wrong-type")
    role = raw.get("role")
    if role == "developer":  # OpenAI's newer name for the same thing
        role = "system"
    if role in ("tool", "function"):
        return _tool_result(raw, before)
    if role not in ("system", "user", "assistant"):
        raise Wrong(f"unknown role {role!r}", "use system, user, assistant or tool", "unknown-role")
    calls = _calls(raw, position) if role == "assistant" else ()
    if role != "assistant" and (raw.get("tool_calls") or raw.get("function_call")):
        raise Wrong(f"the {role} calls a tool", "only the assistant calls tools", "bad-tool-call")
    if calls:
        return ToolUse(content=text_of(raw.get("content") or ""), calls=calls)
    if raw.get("refusal") and not raw.get("content"):
        return Message(role=role, content=text_of(raw["refusal"]))
    return Message(role=role, content=text_of(raw.get("content")))


def _tool_result(raw: Mapping[str, Any], before: list[Said]) -> ToolResult:
    call, name = raw.get("tool_call_id"), raw.get("name")
    if raw.get("role") == "function":  # the older API has no ids: the call right before is meant
        last = before[-1] if before else None
        call = last.calls[0].id if isinstance(last, ToolUse) else "call_0"
    if not isinstance(call, str) or not call:
        raise Wrong("a tool's result without `tool_call_id`", "name the call that it answers", "bad-tool-call")
    return ToolResult(text_of(raw.get("content")), whole_letters(call), name if isinstance(name, str) else None)


def _calls(raw: Mapping[str, Any], position: int) -> tuple[ToolCall, ...]:
    old, calls = raw.get("function_call"), raw.get("tool_calls")
    if old and not calls:
        calls = [{"id": f"call_{position}", "type": "function", "function": old}]
    if not calls:
        return ()
    mend = 'write {"id": …, "type": "function", "function": {"name": …, "arguments": "{…}"}}'
    if not isinstance(calls, list):
        raise Wrong("`tool_calls` is not a list", mend, "bad-tool-call")
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Wrong("a tool call without a function's name", mend, "bad-tool-call")
        name, id_ = whole_letters(function["name"]), whole_letters(str(call.get("id") or f"call_{position}"))
        found.append(ToolCall(id_, name, _arguments(function.get("arguments"))))
    return tuple(found)


def _arguments(raw: Any) -> str:
    """A call's arguments as JSON text of an object; some files hold them as an object already."""
    mend = "give the arguments as JSON text of an object"
    if isinstance(raw, Mapping):
        raw = json.dumps(raw, ensure_ascii=False)
    if raw in (None, ""):
        return "{}"
    try:
        known = json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError) as error:
        raise Wrong("a tool call's arguments are not JSON", mend, "bad-tool-call") from error
    if not isinstance(known, dict):
        raise Wrong("a tool call's arguments are no object", mend, "bad-tool-call")
    whole_letters(json.dumps(known, ensure_ascii=False))  # an escape may hide half a character
    return raw


def _weight(raw: Mapping[str, Any], message: Said) -> int:
    weight = raw.get("weight", 1)
    if weight is None:  # a column of Parquet that other rows have
        return 1
    if weight not in (0, 1) or (weight == 0 and message.role != "assistant"):
        mend = "weight is 0 or 1, and 0 only on the assistant's messages"
        raise Wrong(f"weight {weight!r} on role {message.role}", mend, "bad-weight")
    return int(weight)


def _unknown(line: int, said: Messages) -> Iterator[Problem]:
    if said.unknown:
        named = ", ".join(f"{key[:40]!r}" for key in said.unknown[:5])
        yield Problem(line, "warning", f"nothing here uses {named} of a message", "take it out", "unknown-key")
