"""A fake of one vLLM engine: Anthropic's routes, tool calls, /tokenize, and errors in vLLM's own words.

The last message's text chooses the answer: "dead" and "too long" are errors, "call" a tool's call; the rest is echoed.
Events and errors are those of vLLM 0.32, recorded from a real engine.
"""

import json
from collections.abc import Iterator
from typing import Any

from tests.fakes.http_server import FakeServer, Handler, Refusal, Reply, Request

DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
TOO_LONG = (
    "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, "
    "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
    "(parameter=input_tokens, value=4097)"
)
_ID: dict[str, Any] = {"id": "chatcmpl-1", "created": 1_700_000_000}


class FakeVLLM(FakeServer):
    """An engine that serves any model name."""

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Every address that there is."""
        return [
            ("POST", "/v1/chat/completions", self.chat),
            ("POST", "/v1/messages", self.messages),
            ("POST", "/v1/messages/count_tokens", lambda request: {"input_tokens": 24}),
            ("POST", "/tokenize", lambda request: {"count": 2, "max_model_len": 4096, "tokens": [1, 2]}),
        ]

    def unknown(self, request: Request) -> Reply:
        """FastAPI's words."""
        return Reply({"detail": "Not Found"}, 404)

    def chat(self, request: Request) -> Reply | dict[str, Any]:
        """A chat completion, whole or as a stream."""
        asked = request.json()
        text = _words(asked, "BadRequestError")
        message: dict[str, Any] = {"role": "assistant", "content": text}
        end = "stop"
        if text == "call":
            call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
            message, end = {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
        if asked.get("stream"):
            return Reply(_chunks(message, end, dies=text == "dies later"))
        choice = {"index": 0, "message": message, "finish_reason": end}
        usage = {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11}
        return _ID | {"object": "chat.completion", "model": asked["model"], "choices": [choice], "usage": usage}

    def messages(self, request: Request) -> Reply | dict[str, Any]:
        """A message, whole or as events."""
        asked = request.json()
        text = _words(asked, "BadRequestError")
        whole = {"id": "chatcmpl-1", "type": "message", "role": "assistant", "model": asked["model"]}
        if asked.get("stream"):
            return Reply(_events(whole, text, dies=text == "dies later"))
        content = [{"type": "text", "text": text}]
        usage = {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 4}
        return whole | {"content": content, "stop_reason": "end_turn", "usage": usage}


def _words(asked: dict[str, Any], kind: str) -> str:
    text = asked["messages"][-1]["content"] or ""
    if text == "dead":
        raise Refusal(500, {"error": {"message": DEAD, "type": "InternalServerError", "param": None, "code": 500}})
    if text == "too long":
        raise Refusal(400, {"type": "error", "error": {"message": TOO_LONG, "type": kind, "code": 400}})
    return text


def _chunks(message: dict[str, Any], end: str, *, dies: bool) -> Iterator[bytes]:
    def frame(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + json.dumps(_ID | {"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"

    yield frame({"role": "assistant", "content": ""})
    if dies:
        yield b"data: " + json.dumps({"error": {"message": DEAD, "type": "InternalServerError"}}).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"
        return
    if message["content"]:
        yield frame({"content": message["content"]})
    for call in message.get("tool_calls", ()):
        head = {"id": call["id"], "type": "function", "index": 0, "function": {"name": call["function"]["name"]}}
        yield frame({"content": None, "tool_calls": [head]})
        for piece in ('{"city":', '"Oslo"}'):
            yield frame({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    yield frame({"content": ""}, end)
    yield b"data: [DONE]\n\n"


def _events(whole: dict[str, Any], text: str, *, dies: bool) -> Iterator[bytes]:
    begun = whole | {"content": [], "stop_reason": None, "usage": {"input_tokens": 24, "output_tokens": 0}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}, "index": 0},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}, "index": 0},
    ]
    if dies:
        events.append({"type": "error", "error": {"type": "internal_error", "message": DEAD}})
    else:
        events += [
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
             "usage": {"input_tokens": 24, "output_tokens": 8}},
            {"type": "message_stop"},
        ]  # fmt: skip
    for event in events:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
