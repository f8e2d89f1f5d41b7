"""Parses the answer of a chat completion, or a response, from the bytes that were sent."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

_MAX_CALLS = 1024
# Fields of a choice's message that a stream sends in pieces of text.
_TEXTS = ("content", "refusal", "reasoning", "reasoning_content")


def read_answer(response: bytes, *, stream: bool) -> dict[str, Any]:
    """The chat completion in a response; for a stream, assembled from its chunks.

    Raises:
        ValueError: the response is not one.
    """
    answer = _join_chunks(_chunks(response)) if stream else orjson.loads(response)
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not all(_is_choice(choice) for choice in choices):
        raise ValueError("the response is not a chat completion")
    return answer


def read_response(response: bytes, *, stream: bool) -> dict[str, Any]:
    """The response in the bytes of one; for a stream, the one in its last event.

    Raises:
        ValueError: there is none.
    """
    events = list(_chunks(response)) if stream else [{"response": orjson.loads(response)}]
    answer = events[-1].get("response") if events and isinstance(events[-1], dict) else None
    if isinstance(answer, dict) and isinstance(answer.get("output"), list):
        return answer
    raise ValueError("the response is not one of /v1/responses")


def _is_choice(choice: Any) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("message"), dict)


def _chunks(response: bytes) -> Iterator[dict[str, Any]]:
    for line in response.splitlines():
        if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
            yield orjson.loads(data)


def _join_chunks(chunks: Iterator[dict[str, Any]]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        answer |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for piece in chunk.get("choices") or ():
            empty = {"index": piece["index"], "message": {"role": "assistant", "content": None}, "finish_reason": None}
            choice = choices.setdefault(piece["index"], {**empty, "logprobs": None})
            _add_delta(choice["message"], piece.get("delta") or {})
            choice["finish_reason"] = piece.get("finish_reason") or choice["finish_reason"]
            if logprobs := piece.get("logprobs"):
                choice["logprobs"] = _joined_logprobs(choice["logprobs"], logprobs)
    return {**answer, "object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _add_delta(message: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if delta.get(name) is not None:
            message[name] = (message.get(name) or "") + delta[name]
    for piece in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        if not 0 <= piece["index"] < _MAX_CALLS:
            raise ValueError(f"a tool call has the index {piece['index']}")
        while len(calls) <= piece["index"]:
            calls.append({"id": None, "type": "function", "function": {"name": "", "arguments": ""}})
        call, function = calls[piece["index"]], piece.get("function") or {}
        call["id"] = piece.get("id") or call["id"]
        for name in ("name", "arguments"):
            call["function"][name] += function.get(name) or ""
    if function := delta.get("function_call"):
        whole = message.setdefault("function_call", {"name": "", "arguments": ""})
        for name in ("name", "arguments"):
            whole[name] += function.get(name) or ""


def _joined_logprobs(first: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(first or {})
    for name, values in more.items():
        if isinstance(values, list):
            joined[name] = [*(joined.get(name) or ()), *values]
    return joined
