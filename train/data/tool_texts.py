"""Reads tool calls that are written as text, in the formats of Hermes, Qwen and Glaive, as OpenAI's fields.

`<tool_call>{"name", "arguments"}</tool_call>` or `<functioncall> {…}` in an answer is a call, and its result is
`<tool_response>…</tool_response>` or the next message of a tool. In the system message, `<tools>…</tools>` or Glaive's
sentence lists the tools. The base's template then writes them in its own format. A call that is not a JSON object with
a name stays text, and a warning reports it.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from train.data.python_values import cell_value
from train.data.unread_fields import RowNote

# A block ends before the next one begins: a search from each of many open tags to the end of a text takes minutes.
_CALL = re.compile(r"<tool_call>((?:(?!<tool_call>).)*?)</tool_call>|<functioncall>(.*)\Z", re.DOTALL)
_CALL_MARKS = ("<tool_call>", "<functioncall>")
_RESULT = re.compile(r"<tool_response>((?:(?!<tool_response>).)*?)</tool_response>", re.DOTALL)
_TOOLS = re.compile(r"<tools>\s*([\[{](?:(?!<tools>).)*?)</tools>", re.DOTALL)
_SENTENCE = "Use them if required -"
_MARKS = ("<tool", "<functioncall>", _SENTENCE)
_RESULT_ROLES = ("tool", "function", "observation", "tool_response", "ipython", "user")
_READ, _LEFT = "read", "left"


@dataclass(frozen=True)
class ToolTexts:
    """Messages with their tool calls in OpenAI's fields.

    Attributes:
        messages: the messages; those without such texts are the same objects.
        tools: the tools that the system message lists.
        notes: "read" if there were such texts, "left" if some stay text.
    """

    messages: tuple[Any, ...]
    tools: tuple[Any, ...] = ()
    notes: frozenset[str] = frozenset()


def open_tool_texts(messages: Sequence[Any]) -> ToolTexts:
    """Messages in OpenAI's format, with the tool calls, results and tools in their texts as fields."""
    if not any(mark in _text(message) for message in messages for mark in _MARKS):
        return ToolTexts(tuple(messages))
    opened: list[Any] = []
    waiting: list[str] = []  # ids of calls without a result
    notes: set[str] = set()
    tools: tuple[Any, ...] = ()
    for message in messages:
        text, role = _text(message), message.get("role") if isinstance(message, Mapping) else None
        if role in ("system", "developer"):
            tools = tools or listed_tools(text)
        elif role == "assistant":
            call = _with_calls(message, text, len(opened))
            notes |= {_READ} if call is not message else {_LEFT} if any(mark in text for mark in _CALL_MARKS) else set()
            waiting = [str(item.get("id") or "") for item in call.get("tool_calls") or () if isinstance(item, Mapping)]
            message = call
        elif role in _RESULT_ROLES and waiting and (results := _results(text)):
            notes.add(_READ)
            opened += [_result(message, content, waiting) for content in results]
            continue
        elif role in _RESULT_ROLES[:-1] and waiting and _READ in notes:  # the result without tags
            message = _result(message, message.get("content"), waiting)
        opened.append(message)
    return ToolTexts(tuple(opened), tools, frozenset(notes | ({_READ} if tools else set())))


def without_tools(text: str) -> str:
    """A system message without the list of tools in it."""
    before, sentence, _ = _cut_sentence(text)
    return re.sub(r"\n{3,}", "\n\n", _TOOLS.sub("", before + sentence)).strip()


def _cut_sentence(text: str) -> tuple[str, str, str]:
    """A text up to Glaive's sentence, the sentence, and the objects that end the text; else the text and nothing."""
    before, sentence, after = text.partition(_SENTENCE)
    listed = after.strip()
    return (before, sentence, listed) if listed.startswith("{") and listed.endswith("}") else (text, "", "")


def tool_text_notes(line: int, notes: frozenset[str]) -> Iterator[RowNote]:
    """How a row's texts were read, for the report."""
    code = "text-tool-calls"
    if _READ in notes:
        message = "tool calls, results or lists of tools that are written as text were recognised"
        mend = "nothing to do: the base's template writes them; `parley data convert` shows the result"
        yield RowNote(line, message, mend, code)
    if _LEFT in notes:
        mend = 'write {"name": …, "arguments": {…}} in the tags, and nothing after them'
        yield RowNote(line, "a tool call that is not a JSON object with a name stays text", mend, code)


def _text(message: Any) -> str:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, str) else ""


def _with_calls(message: Mapping[str, Any], text: str, position: int) -> Mapping[str, Any]:
    """The answer with its calls as `tool_calls`; unchanged if it has none, or a block that cannot be read."""
    blocks = list(_CALL.finditer(text))
    if not blocks or message.get("tool_calls") or message.get("function_call"):
        return message
    calls = [_call(block[1] or block[2] or "", f"call_{position}_{number}") for number, block in enumerate(blocks, 1)]
    between = text[blocks[0].start() :]
    if None in calls or _CALL.sub("", between).strip() or sum(map(text.count, _CALL_MARKS)) != len(blocks):
        return message
    return {**message, "content": text[: blocks[0].start()].strip(), "tool_calls": calls}


def _call(text: str, call_id: str) -> dict[str, Any] | None:
    value = _value(text)
    name = value.get("name") if isinstance(value, Mapping) else None
    if not isinstance(value, Mapping) or not isinstance(name, str) or not name:
        return None
    arguments = value.get("arguments", value.get("parameters", {}))
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _results(text: str) -> list[str]:
    """The results in a message that has nothing else."""
    return [] if _RESULT.sub("", text).strip() else [block[1].strip() for block in _RESULT.finditer(text)]


def _result(message: Mapping[str, Any], content: Any, waiting: list[str]) -> dict[str, Any]:
    """A result with the id of the next call; with its own id if no call is left, which the check reports."""
    own = message.get("tool_call_id")
    if own in waiting:
        waiting.remove(str(own))
        return {**message, "role": "tool", "content": content}
    return {**message, "role": "tool", "tool_call_id": waiting.pop(0) if waiting else own, "content": content}


def listed_tools(text: str) -> tuple[Any, ...]:
    """The tools that a system message lists, as a list or one after the other; empty if it lists none."""
    items: list[Any] = []
    for block in (*_TOOLS.findall(text), _cut_sentence(text)[2]):
        for item in _values(block):
            items += item if isinstance(item, list) else [item]
    named = [tool for tool in items if isinstance(tool, Mapping) and ("function" in tool or "name" in tool)]
    return tuple(named) if len(named) == len(items) else ()


def _values(text: str) -> list[Any]:
    """The JSON values that follow one another in a text; a None at the end for what is none."""
    if (whole := _value(text)) is not None:
        return [whole]
    values: list[Any] = []
    decoder, text, end = json.JSONDecoder(), text.strip(), 0
    while end < len(text):
        try:
            value, end = decoder.raw_decode(text, end)
        except (ValueError, RecursionError):
            return [*values, None]
        values.append(value)
        while end < len(text) and text[end] in " \t\r\n,":
            end += 1
    return values


def _value(text: str) -> Any:
    try:
        return cell_value(text.strip())
    except ValueError:
        return None
