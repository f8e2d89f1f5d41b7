"""Rows in OpenAI's fine-tuning formats: chat messages with tools and weights, and preference pairs for DPO.

It checks the format only; `checks` checks whether a conversation can be trained on. Format:
 https://platform.openai.com/docs/guides/supervised-fine-tuning and …/direct-preference-
optimization.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from models.messages import Message
from train.data.conversations import (
    ChatMessage,
    Conversation,
    Example,
    Preference,
    Problem,
    TextParts,
    ToolCall,
    ToolResult,
    ToolUse,
)

_KNOWN = frozenset(
    {"role", "content", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio", "annotations"}
)
_SHAPE = 'write {"messages": [{"role": …, "content": …}, …]}'


class RowError(Exception):
    """A row that cannot be read: what is wrong, what to do about it, and the code of the problem."""

    def __init__(self, message: str, mend: str, code: str) -> None:
        super().__init__(message)
        self.message, self.mend, self.code = message, mend, code

    def at(self, line: int) -> Problem:
        """The error as a problem of its line."""
        return Problem(line, "error", self.message, self.mend, self.code)


@dataclass(frozen=True)
class Messages:
    """The messages of a row, the positions with weight 0, and the keys that are not used."""

    messages: tuple[ChatMessage, ...]
    unweighted: frozenset[int]
    unknown: tuple[str, ...]


def chat_row(line: int, row: Mapping[str, Any]) -> Iterator[Example | Problem]:
    """`{"messages": […], "tools": […]}`.

    Raises:
        RowError: the row cannot be read.
    """
    if not isinstance(row.get("messages"), list):
        raise RowError("no `messages` list", _SHAPE, "wrong-type")
    read = read_messages(row["messages"])
    yield from _unknown(line, read)
    yield Example(line, Conversation(read.messages, read_tools(row)), read.unweighted, metadata_of(row, "messages"))


def preference_row(line: int, row: Mapping[str, Any]) -> Iterator[Preference | Problem]:
    """`{"input": {"messages": […]}, "preferred_output": […], "non_preferred_output": […]}`.

    Raises:
        RowError: the row cannot be read.
    """
    given = row.get("input")
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), list):
        raise RowError("no `input` with a `messages` list", 'write {"input": {"messages": […]}, …}', "wrong-type")
    prompt = read_messages(given["messages"])
    sides = [_side(row, "preferred_output"), _side(row, "non_preferred_output")]
    for part in (prompt, *sides):
        yield from _unknown(line, part)
    used = ("input", "preferred_output", "non_preferred_output")
    chosen, rejected = (side.messages for side in sides)
    yield Preference(line, prompt.messages, chosen, rejected, read_tools(given), metadata_of(row, *used))


def _side(row: Mapping[str, Any], name: str) -> Messages:
    if not isinstance(row.get(name), list):
        raise RowError(f"no `{name}` list", f'write "{name}": [{{"role": "assistant", "content": …}}]', "wrong-type")
    return read_messages(row[name])


def read_messages(raw: list[Any]) -> Messages:
    """Messages in the API's format; function calls of the older API become tool calls.

    Raises:
        RowError: one of them cannot be read; the message says which.
    """
    messages: list[ChatMessage] = []
    unweighted: set[int] = set()
    unknown: set[str] = set()
    for position, item in enumerate(raw):
        try:
            message = _message(item, messages, position)
            if _weight(item, message) == 0:
                unweighted.add(position)
        except RowError as error:
            raise RowError(f"message {position + 1}: {error.message}", error.mend, error.code) from error
        named = {"name"} if message.role == "tool" else set()
        unknown |= {str(key) for key, value in item.items() if value is not None} - _KNOWN - named
        messages.append(message)
    return Messages(tuple(messages), frozenset(unweighted), tuple(sorted(unknown)))


def read_tools(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The tools of a row, each as JSON text in the current format.

    Raises:
        RowError: they are not a list of objects with a name.
    """
    tools = row.get("tools") or row.get("functions") or []
    if isinstance(tools, str):  # a column of a CSV or Parquet file
        try:
            tools = json.loads(tools)
        except ValueError as error:
            raise RowError("`tools` is a text that is not JSON", "give a list of tools", "bad-tools") from error
    if not isinstance(tools, list):
        raise RowError("`tools` is not a list", "give a list of tools", "bad-tools")
    # Older files, and other programs, give the function alone.
    bare = [isinstance(tool, Mapping) and "name" in tool and "function" not in tool for tool in tools]
    tools = [
        {"type": "function", "function": tool} if is_bare else tool for tool, is_bare in zip(tools, bare, strict=True)
    ]
    for tool in tools:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            mend = 'write {"type": "function", "function": {"name": …, "parameters": …}}'
            raise RowError("a tool without a function name", mend, "bad-tools")
    texts = tuple(json.dumps(tool, ensure_ascii=False) for tool in tools)
    for text in texts:
        require_valid_unicode(text)
    return texts


def metadata_of(row: Mapping[str, Any], *used: str) -> dict[str, str]:
    """The other fields of a row as text. The fields of an object `metadata` are merged in."""
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
    """The text of a content field, its text parts joined with a newline, as an engine joins them.

    Raises:
        RowError: it is something else, or holds half a character.
    """
    if isinstance(content, list):
        content = "\n".join(_parts(content))
    if not isinstance(content, str):
        raise RowError(f"content is {type(content).__name__}, not text", "give the content as a string", "wrong-type")
    return require_valid_unicode(content)


def _parts(content: list[Any]) -> list[str]:
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        raise RowError("content with parts that are not text", "keep only the text parts", "not-text")
    return [str(part.get("text", "")) for part in content]


def _text_message(role: Any, content: Any) -> Message:
    text = text_of(content)
    if isinstance(content, list) and len(content) > 1:
        return TextParts(role=role, content=text, parts=tuple(_parts(content)))
    return Message(role=role, content=text)


def require_valid_unicode(text: str) -> str:
    """The same text.

    Raises:
        RowError: it has half of a surrogate pair, which UTF-8 cannot encode and no tokenizer accepts.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message, mend = "content has half a character (\\ud800 to \\udfff)", "fix the export: it cut an emoji in two"
        raise RowError(message, mend, "half-character") from error
    return text


def _message(raw: Any, before: list[ChatMessage], position: int) -> ChatMessage:
    if not isinstance(raw, Mapping):
        raise RowError("not an object", 'write {"role": …, "content": …}', "wrong-type")
    role = raw.get("role")
    if role == "developer":  # OpenAI's newer name for the role
        role = "system"
    if role in ("tool", "function"):
        return _tool_result(raw, before)
    if role not in ("system", "user", "assistant"):
        raise RowError(f"unknown role {role!r}", "use system, user, assistant or tool", "unknown-role")
    calls = _calls(raw, position) if role == "assistant" else ()
    if role != "assistant" and (raw.get("tool_calls") or raw.get("function_call")):
        raise RowError(f"a {role} message has tool calls", "only assistant messages may call tools", "bad-tool-call")
    if calls:
        return ToolUse(content=text_of(raw.get("content") or ""), calls=calls)
    if raw.get("refusal") and not raw.get("content"):
        return Message(role=role, content=text_of(raw["refusal"]))
    return _text_message(role, raw.get("content"))


def _tool_result(raw: Mapping[str, Any], before: list[ChatMessage]) -> ToolResult:
    call, name = raw.get("tool_call_id"), raw.get("name")
    if raw.get("role") == "function":  # the older API has no ids: it answers the call right before
        last = before[-1] if before else None
        call = last.calls[0].id if isinstance(last, ToolUse) else "call_0"
    if not isinstance(call, str) or not call:
        raise RowError(
            "a tool result without `tool_call_id`", "give the id of the call that it answers", "bad-tool-call"
        )
    return ToolResult(text_of(raw.get("content")), require_valid_unicode(call), name if isinstance(name, str) else None)


def _calls(raw: Mapping[str, Any], position: int) -> tuple[ToolCall, ...]:
    old, calls = raw.get("function_call"), raw.get("tool_calls")
    if old and not calls:
        calls = [{"id": f"call_{position}", "type": "function", "function": old}]
    if not calls:
        return ()
    mend = 'write {"id": …, "type": "function", "function": {"name": …, "arguments": "{…}"}}'
    if not isinstance(calls, list):
        raise RowError("`tool_calls` is not a list", mend, "bad-tool-call")
    tool_calls = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise RowError("a tool call without a function name", mend, "bad-tool-call")
        name, call_id = (
            require_valid_unicode(function["name"]),
            require_valid_unicode(str(call.get("id") or f"call_{position}")),
        )
        tool_calls.append(ToolCall(call_id, name, _arguments(function.get("arguments"))))
    return tuple(tool_calls)


def _arguments(raw: Any) -> str:
    """The arguments of a call as JSON text; some files have them as an object."""
    mend = "give the arguments as a JSON object in a string"
    if isinstance(raw, Mapping):
        raw = json.dumps(raw, ensure_ascii=False)
    if raw in (None, ""):
        return "{}"
    try:
        value = json.loads(raw) if isinstance(raw, str) else raw
    except (ValueError, RecursionError) as error:
        raise RowError("a tool call's arguments are not JSON", mend, "bad-tool-call") from error
    if not isinstance(value, dict):
        raise RowError("a tool call's arguments are not an object", mend, "bad-tool-call")
    require_valid_unicode(json.dumps(value, ensure_ascii=False))  # an escape may contain half a character
    return raw


def _weight(raw: Mapping[str, Any], message: ChatMessage) -> int:
    weight = raw.get("weight", 1)
    if weight is None:  # a Parquet column that only other rows use
        return 1
    if weight not in (0, 1) or (weight == 0 and message.role != "assistant"):
        mend = "use weight 0 or 1, and 0 only for assistant messages"
        raise RowError(f"weight {weight!r} on role {message.role}", mend, "bad-weight")
    return int(weight)


def _unknown(line: int, read: Messages) -> Iterator[Problem]:
    if read.unknown:
        named = ", ".join(f"{key[:40]!r}" for key in read.unknown[:5])
        yield Problem(line, "warning", f"unknown message fields: {named}", "remove them", "unknown-key")
