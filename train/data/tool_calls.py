"""Reads the tools of a row and the tool calls of its messages, in OpenAI's current and older fields."""

import json
from collections.abc import Mapping
from typing import Any

from train.data.conversations import ToolCall
from train.data.row_errors import RowError, require_valid_unicode


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
    try:
        texts = tuple(json.dumps(tool, ensure_ascii=False) for tool in tools)
    except TypeError as error:  # rows in memory may have a set or a date
        raise RowError(f"a tool cannot be written as JSON: {error}", "use texts and numbers", "bad-tools") from error
    for text in texts:
        require_valid_unicode(text)
    return texts


def read_calls(raw: Mapping[str, Any], position: int) -> tuple[ToolCall, ...]:
    """The tool calls of an assistant message; calls without an id get one from the message's position.

    Raises:
        RowError: they cannot be read.
    """
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
        name = require_valid_unicode(function["name"])
        call_id = require_valid_unicode(str(call.get("id") or f"call_{position}"))
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
