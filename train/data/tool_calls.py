"""Tools, tool calls and their results in a row's messages, in OpenAI's current format and the older one.

Format: platform.openai.com/docs/guides/supervised-fine-tuning.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from train.data.conversations import ChatMessage, ToolCall, ToolResult, ToolUse
from train.data.row_fields import RowError, require_valid_unicode, text_of

# Other names of `tool`, of the older API and of other programs. Their results have no ids.
RESULT_ROLES = ("function", "observation", "tool_response", "function_response", "ipython")


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


def read_tool_calls(raw: Mapping[str, Any], position: int) -> tuple[ToolCall, ...]:
    """The calls of an assistant message; the older API's single function call becomes one.

    Args:
        raw: the message. position: its place in the conversation, for the ids of calls without one.

    Raises:
        RowError: they are not a list of calls of functions, or have wrong arguments.
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


def read_tool_result(raw: Mapping[str, Any], before: Sequence[ChatMessage]) -> ToolResult:
    """The result of a tool call; `before` has the earlier messages, for results without an id.

    Raises:
        RowError: there is no id, or no text.
    """
    call, name = raw.get("tool_call_id"), raw.get("name")
    if not call and raw.get("role") in RESULT_ROLES:
        call = _call_answered(before)
    if not isinstance(call, str) or not call:
        raise RowError(
            "a tool result without `tool_call_id`", "give the id of the call that it answers", "bad-tool-call"
        )
    return ToolResult(text_of(raw.get("content")), require_valid_unicode(call), name if isinstance(name, str) else None)


def _call_answered(before: Sequence[ChatMessage]) -> str:
    """The id of the call that the next result answers, if results follow the order of the calls."""
    for results, message in enumerate(reversed(before)):
        if isinstance(message, ToolUse) and results < len(message.calls):
            return message.calls[results].id
        if not isinstance(message, ToolResult):
            break
    return "call_0"
