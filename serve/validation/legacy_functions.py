"""Translates OpenAI's deprecated `functions` and `function_call`, which tools replaced in 2023, to tools and back.

Programs written for old fine-tunes still send them, and vLLM ignores them. Source: the deprecated fields of the openai
package's types (types/chat/completion_create_params.py, chat_completion_message.py).
"""

from typing import Any

import orjson

from models.errors import Invalid

# A chat request without these needs no translation, unless a message has the old format.
FUNCTION_FIELDS = frozenset({"functions", "function_call"})


def uses_functions(body: dict[str, Any]) -> bool:
    """Whether a chat request has the old fields, or messages in the old format."""
    if not FUNCTION_FIELDS.isdisjoint(body):
        return True
    messages = body.get("messages")
    if type(messages) is list:
        for message in messages:
            if type(message) is dict and ("function_call" in message or message.get("role") == "function"):
                return True
    return False


def translate_request(body: dict[str, Any]) -> dict[str, Any]:
    """A chat request with tools in place of functions, without parallel calls: `function_call` has room for one only.

    Raises:
        Invalid: functions and tools are mixed, or a field has another type.
    """
    functions, choice = body.get("functions"), body.get("function_call")
    if functions is not None and (body.get("tools") is not None or body.get("tool_choice") is not None):
        raise Invalid("Send tools or functions, not both: functions are the older form of tools.", param="functions")
    translated = {name: value for name, value in body.items() if name not in FUNCTION_FIELDS}
    if isinstance(messages := body.get("messages"), list):
        translated["messages"] = _translate_messages(messages)
    if functions is None:
        if choice is not None and body.get("tools") is None and choice != "none":
            raise Invalid("'function_call' is only allowed when 'functions' are specified.", param="function_call")
        return translated
    if not isinstance(functions, list) or not functions or not all(isinstance(entry, dict) for entry in functions):
        raise Invalid("'functions' must be a list of at least one object.", param="functions")
    translated["tools"] = [{"type": "function", "function": function} for function in functions]
    translated["parallel_tool_calls"] = False
    if choice is not None:
        translated["tool_choice"] = _translate_choice(choice)
    return translated


def _translate_choice(choice: Any) -> Any:
    if choice in ("none", "auto"):
        return choice
    if isinstance(choice, dict) and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    raise Invalid("'function_call' must be none, auto or an object with a function's name.", param="function_call")


def _translate_messages(messages: list[Any]) -> list[Any]:
    """The messages with tool calls and results in the new format. A result belongs to the preceding call."""
    translated: list[Any] = []
    calls = 0
    for message in messages:
        if isinstance(message, dict) and isinstance(message.get("function_call"), dict):
            calls += 1
            call = {"id": f"call_{calls}", "type": "function", "function": message["function_call"]}
            rest = {name: value for name, value in message.items() if name != "function_call"}
            translated.append({**rest, "content": message.get("content"), "tool_calls": [call]})
        elif isinstance(message, dict) and message.get("role") == "function":
            content = message.get("content")
            translated.append({"role": "tool", "tool_call_id": f"call_{max(calls, 1)}", "content": content})
        elif isinstance(message, dict) and "function_call" in message:
            translated.append({name: value for name, value in message.items() if name != "function_call"})
        else:
            translated.append(message)
    return translated


def translate_response(content: dict[str, Any]) -> dict[str, Any]:
    """A chat completion with `function_call` in place of its first tool call. Changes and returns `content`."""
    for choice in content.get("choices") or ():
        message = choice.get("message")
        if isinstance(message, dict):
            calls = message.pop("tool_calls", None)
            if calls:
                message["function_call"] = _function_call(calls[0])
        _translate_finish(choice)
    return content


def translate_frame(frame: bytes) -> bytes:
    """One frame of a chat stream, without its blank line, with `function_call` in place of tool calls."""
    start = frame.find(b"data:")
    if start < 0 or b"tool_calls" not in frame:
        return frame
    try:
        content = orjson.loads(frame[start + 5 :])
    except orjson.JSONDecodeError:
        return frame
    for choice in content.get("choices") or ():
        delta = choice.get("delta")
        if isinstance(delta, dict):
            calls = delta.pop("tool_calls", None)
            # The old format has room for the first call only.
            if calls and calls[0].get("index", 0) == 0:
                delta["function_call"] = _function_call(calls[0])
        _translate_finish(choice)
    return frame[: start + 5] + b" " + orjson.dumps(content)


def _function_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    return {name: function[name] for name in ("name", "arguments") if function.get(name) is not None}


def _translate_finish(choice: dict[str, Any]) -> None:
    if choice.get("finish_reason") == "tool_calls":
        choice["finish_reason"] = "function_call"
