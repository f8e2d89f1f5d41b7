"""A fake OpenAI model with features that the demo's models lack: tool calls, JSON schemas, embeddings, `responses`.

A question that names a city gets a call of the first tool with that city, a JSON schema gets the smallest matching
object, and everything else is echoed. Formats are OpenAI's, including streams.

    with FakeAnswers() as fake:
        client = openai.OpenAI(base_url=fake.base_url, api_key=fake.key)
"""

import base64
import itertools
import json
import re
import struct
from collections.abc import Iterator
from typing import Any

from tests.fakes.http_server import FakeServer, Handler, Refusal, Reply, Request

KEY = "sk-fake-answers"
MODEL = "fake-large"
_CITIES = re.compile(r"\b(Paris|Oslo)\b")
_NUMBERS = itertools.count(1)
_USAGE = {"prompt_tokens": 8, "completion_tokens": 5, "total_tokens": 13}


class FakeChat(FakeServer):
    """One model behind one key."""

    key = KEY

    @property
    def base_url(self) -> str:
        """What a client takes as `base_url`."""
        return f"{self.address}/v1"

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Every address that there is."""
        return [
            ("POST", "/v1/chat/completions", self.chat),
            ("POST", "/v1/embeddings", self.embeddings),
            ("POST", "/v1/responses", self.responses),
        ]

    def admit(self, request: Request) -> None:
        """401 without the key."""
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refusal(401, {"error": {"message": "Incorrect API key", "type": "invalid_request_error"}})

    def chat(self, request: Request) -> Reply | dict[str, Any]:
        """An answer: a tool's call, JSON, or the question's words."""
        asked = request.json()
        message = _message(asked)
        end = "tool_calls" if message.get("tool_calls") else "stop"
        shape = {"id": "chatcmpl-fake", "created": 1_700_000_000, "model": asked["model"]}
        if asked.get("stream"):
            wanted = (asked.get("stream_options") or {}).get("include_usage")
            return Reply(_chunks(shape, message, end, usage=bool(wanted)))
        choice = {"index": 0, "message": {"refusal": None, **message}, "finish_reason": end, "logprobs": None}
        return shape | {"object": "chat.completion", "choices": [choice], "usage": _USAGE}

    def embeddings(self, request: Request) -> dict[str, Any]:
        """Three numbers for each text: as a list, or in base64, which the SDK asks for."""
        asked = request.json()
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        data = []
        for index, text in enumerate(texts):
            numbers: Any = [float(len(text)), 0.5, -1.0]
            if asked.get("encoding_format") == "base64":
                numbers = base64.b64encode(struct.pack("<3f", *numbers)).decode()
            data.append({"object": "embedding", "index": index, "embedding": numbers})
        return {
            "object": "list",
            "model": asked["model"],
            "data": data,
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }

    def responses(self, request: Request) -> Reply | dict[str, Any]:
        """A response, whole or as events: a message that echoes, or a call of the first tool. The usage counts
        eight tokens for each item of the input.
        """
        asked = request.json()
        items = [{"role": "user", "content": asked["input"]}] if isinstance(asked["input"], str) else asked["input"]
        question = _item_words(items[-1])
        city = _CITIES.search(question)
        number = next(_NUMBERS)
        text = {"type": "output_text", "text": f"You said: {question}", "annotations": [], "logprobs": []}
        item = {
            "id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [text],
        }  # fmt: skip
        if asked.get("tools") and city and "output" not in items[-1]:
            item = {
                "id": f"fc_{number}", "type": "function_call", "call_id": f"call_{number}", "status": "completed",
                "name": asked["tools"][0]["name"], "arguments": json.dumps({"city": city[0]}),
            }  # fmt: skip
        usage = {
            "input_tokens": 8 * len(items), "output_tokens": 5, "total_tokens": 8 * len(items) + 5,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        }  # fmt: skip
        whole = {
            "id": f"resp_{number}", "object": "response", "created_at": 1_700_000_000, "model": asked["model"],
            "status": "completed", "output": [item], "usage": usage, "tools": [], "tool_choice": "auto",
            "parallel_tool_calls": True, "temperature": 1.0, "top_p": 1.0, "instructions": None, "error": None,
            "incomplete_details": None, "metadata": {},
        }  # fmt: skip
        return Reply(_events(whole, item, text)) if asked.get("stream") else whole


def _item_words(item: dict[str, Any]) -> str:
    content = item.get("content") or item.get("output") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _message(asked: dict[str, Any]) -> dict[str, Any]:
    question = _words(asked["messages"][-1])
    city = _CITIES.search(question)
    if asked.get("tools") and city and asked["messages"][-1]["role"] == "user":
        called = {"name": asked["tools"][0]["function"]["name"], "arguments": json.dumps({"city": city[0]})}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_fake", "type": "function", "function": called}],
        }
    wanted = asked.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return {"role": "assistant", "content": json.dumps(_fitting(wanted["json_schema"]["schema"], question))}
    return {"role": "assistant", "content": f"You said: {question}"}


def _words(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def _fitting(schema: dict[str, Any], text: str) -> Any:
    """The least value that fits a schema without references."""
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _fitting(part, text) for name, part in schema.get("properties", {}).items()}
    return {"string": text, "integer": 7, "number": 0.5, "boolean": True, "array": []}[schema["type"]]


def _chunks(shape: dict[str, Any], message: dict[str, Any], end: str, *, usage: bool) -> Iterator[bytes]:
    def frame(choices: list[dict[str, Any]], **more: Any) -> bytes:
        content = shape | {"object": "chat.completion.chunk", "choices": choices} | more
        return b"data: " + json.dumps(content).encode() + b"\n\n"

    def delta(**content: Any) -> bytes:
        return frame([{"index": 0, "delta": content, "finish_reason": None}])

    yield delta(role="assistant", content="" if message["content"] else None)
    for call in message.get("tool_calls", ()):
        called = call["function"]
        yield delta(tool_calls=[{"index": 0, **call, "function": {"name": called["name"], "arguments": ""}}])
        for piece in re.findall(r".{1,5}", called["arguments"]):
            yield delta(tool_calls=[{"index": 0, "function": {"arguments": piece}}])
    for word in re.findall(r"\s*\S+", message["content"] or ""):
        yield delta(content=word)
    yield frame([{"index": 0, "delta": {}, "finish_reason": end}])
    if usage:
        yield frame([], usage=_USAGE)
    yield b"data: [DONE]\n\n"


def _events(whole: dict[str, Any], item: dict[str, Any], text: dict[str, Any]) -> Iterator[bytes]:
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    pieces = re.findall(r"\s*\S+", text["text"])
    empty = {"arguments": ""} if item["type"] == "function_call" else {"content": []}
    inside: list[tuple[str, dict[str, Any]]] = [
        ("response.content_part.added", {**at, "part": text | {"text": ""}}),
        *(("response.output_text.delta", {**at, "delta": piece, "logprobs": []}) for piece in pieces),
        ("response.output_text.done", {**at, "text": text["text"], "logprobs": []}),
        ("response.content_part.done", {**at, "part": text}),
    ]
    if item["type"] == "function_call":
        arguments = {"item_id": item["id"], "output_index": 0}
        inside = [
            ("response.function_call_arguments.delta", arguments | {"delta": item["arguments"]}),
            ("response.function_call_arguments.done", arguments | {"arguments": item["arguments"], "name": "weather"}),
        ]
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": item | {"status": "in_progress"} | empty}),
        *inside,
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    for number, (kind, content) in enumerate(events):
        data = json.dumps({"type": kind, "sequence_number": number, **content})
        yield f"event: {kind}\ndata: {data}\n\n".encode()
