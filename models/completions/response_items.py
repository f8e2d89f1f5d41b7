"""The items of `/v1/responses`: those of a stored response, and chat messages in their place."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.completions.stored_completions import StoredCompletion

_PART_TYPES = {"input_text": "text", "output_text": "text", "text": "text"}


def request_items(value: Any) -> list[Any]:
    """The items of a request's `input`: a text is one message of the user."""
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    return list(value) if isinstance(value, list) else []


def turn_items(turn: StoredCompletion) -> list[Any]:
    """The items of a stored response: those of its input, then those of its output."""
    output = turn.answer.get("output")
    return request_items(turn.request.get("input")) + (output if isinstance(output, list) else [])


def listed_items(turns: Sequence[StoredCompletion]) -> list[dict[str, Any]]:
    """The input of the last of several stored responses, oldest item first, in the format of `input_items`: every item
    has an id and a type, a message a status and its content in parts.

    Args:
        turns: the responses, oldest first, each continuing the one before it.
    """
    items = []
    for place, turn in enumerate(turns):
        last = place == len(turns) - 1
        own = request_items(turn.request.get("input")) if last else turn_items(turn)
        items += [
            _listed(item, f"{turn.id.removeprefix('resp_')}_{number}")
            for number, item in enumerate(own)
            if isinstance(item, Mapping)
        ]
    return items


def _listed(item: Mapping[str, Any], own_id: str) -> dict[str, Any]:
    kind = item.get("type") or "message"
    listed = {**item, "type": kind, "id": item.get("id") or f"{_id_prefix(kind)}_{own_id}"}
    if kind != "reasoning":
        listed["status"] = item.get("status") or "completed"
    if kind == "message":
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        content = item.get("content")
        if isinstance(content, str):
            annotations = {"annotations": []} if part == "output_text" else {}
            listed["content"] = [{"type": part, "text": content, **annotations}]
    return listed


def _id_prefix(kind: str) -> str:
    return {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}.get(kind, "item")


def chat_messages(items: Iterable[Any]) -> list[dict[str, Any]] | None:
    """Items as chat messages; None if there is one that chat completions do not have, such as a call of OpenAI's own
    tools. Reasoning is left out.
    """
    messages: list[dict[str, Any]] = []
    for item in items:
        if not isinstance(item, Mapping):
            return None
        kind = item.get("type") or "message"
        if kind == "reasoning":
            continue
        if kind == "function_call":
            _add_call(messages, item)
        elif kind == "function_call_output":
            output = _chat_content(item.get("output"))
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": output})
        elif kind == "message" and isinstance(item.get("role"), str):
            messages.append({"role": item["role"], "content": _chat_content(item.get("content"))})
        else:
            return None
    return messages


def chat_tools(tools: Any) -> list[dict[str, Any]]:
    """The functions among the tools of a response, in the format of chat completions."""
    return [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        for tool in tools or ()
        if isinstance(tool, Mapping) and tool.get("type") == "function"
    ]


def _add_call(messages: list[dict[str, Any]], item: Mapping[str, Any]) -> None:
    """Adds a call to the assistant's message before it, or as a message of its own."""
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    call = {"id": item.get("call_id"), "type": "function", "function": function}
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    messages[-1].setdefault("tool_calls", []).append(call)


def _chat_content(content: Any) -> Any:
    """The content of a message: a text if all of its parts are texts."""
    if not isinstance(content, list):
        return content
    parts = [_chat_part(part) for part in content if isinstance(part, Mapping)]
    if all(part.get("type") == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _chat_part(part: Mapping[str, Any]) -> dict[str, Any]:
    kind = str(part.get("type"))
    if kind in _PART_TYPES:
        return {"type": "text", "text": str(part.get("text") or "")}
    if kind == "refusal":
        return {"type": "text", "text": str(part.get("refusal") or "")}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        return {"type": "image_url", "image_url": {"url": part["image_url"]}}
    return dict(part)
