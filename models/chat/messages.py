"""Messages, completions, and the `Completer` protocol.

Callers depend on `Completer`, never on a vendor's client; `models.chat.completer` implements it with the OpenAI SDK.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict

Role = Literal["system", "user", "assistant"]


def join_text_parts(content: Any) -> Any:
    """The text of a content that is a list of text parts, joined as vLLM joins them; any other content unchanged.

    Source: vLLM 0.32, `renderers/chat_utils.py`, `_parse_chat_message_content_parts`.
    """
    if not isinstance(content, list) or not content:
        return content
    texts: list[Any] = [part.get("text") if isinstance(part, dict) else None for part in content]
    return "\n".join(texts) if all(isinstance(text, str) for text in texts) else content


class Message(BaseModel):
    """One message of a conversation. A content of several text parts becomes one text."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    content: Annotated[str, BeforeValidator(join_text_parts)]


class ApiMessage(Message):
    """A message of the chat completions API that is more than a text: images, audio, tool calls and their results.

    `raw` is sent as it is; `content` is its text, for display.
    """

    role: Literal["system", "user", "assistant", "tool"]  # pyrefly: ignore[bad-override] -- one role more
    raw: dict[str, Any]

    def __hash__(self) -> int:
        return hash((self.role, self.content, json.dumps(self.raw, sort_keys=True)))


class Token(BaseModel):
    """One token of an answer, and the likeliest tokens at its position with their log-probabilities."""

    model_config = ConfigDict(frozen=True)

    text: str
    likeliest: tuple[tuple[str, float], ...]


class Completion(BaseModel):
    """A model's answer with its token counts (None if not reported) and times in seconds.

    `tokens` is filled only if log-probabilities were requested and returned. `tool_calls` are as OpenAI has them.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    seconds: float = 0.0
    finish_reason: str | None = None
    tokens: tuple[Token, ...] = ()
    tool_calls: tuple[dict[str, Any], ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens per second after the first token; None if unknown."""
        if self.completion_tokens is None or self.completion_tokens < 2:
            return None
        generating = self.seconds - (self.ttft_s or 0.0)
        return (self.completion_tokens - 1) / generating if generating > 0 else None


class Completer(Protocol):
    """Calls one model. Options are OpenAI's: temperature, max_tokens, seed, response_format, ….

    Raises:
        ParleyError: the model is unknown, not ready, or fails.
    """

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion: ...


def as_dicts(messages: Sequence[Message]) -> list[Any]:
    """Messages in the API's format, `[{"role", "content"}]`; typed loosely because of the SDK's unions."""
    return [
        dict(message.raw) if isinstance(message, ApiMessage) else {"role": message.role, "content": message.content}
        for message in messages
    ]


def read_api_message(raw: Mapping[str, Any]) -> Message:
    """A message of the API: a `Message` if it is a text, else an `ApiMessage`.

    Raises:
        ValueError: it is not a message; images, audio and tool calls must have the API's format.
    """
    content, calls = raw.get("content"), raw.get("tool_calls")
    if not calls and raw.get("role") != "tool" and isinstance(join_text_parts(content), str):
        return Message.model_validate(raw)
    known = {
        key: raw[key] for key in ("role", "content", "tool_calls", "tool_call_id", "name") if raw.get(key) is not None
    }
    if calls and content is None:
        known["content"] = None
    texts = [_part_text(part) for part in content] if isinstance(content, list) else [content or ""]
    if calls and not (isinstance(calls, list) and all(_is_call(call) for call in calls)):
        raise ValueError("tool_calls are not those of a chat completion")
    if known.get("role") == "tool" and not isinstance(known.get("tool_call_id"), str):
        raise ValueError("a tool message needs the tool_call_id of its call")
    if not calls and not content and known.get("role") != "tool":
        raise ValueError("the message has no content")
    return ApiMessage.model_validate({"role": known.get("role"), "content": "\n".join(texts), "raw": known})


def _part_text(part: Any) -> str:
    """The text of a part of a chat message, or what stands in its place.

    Raises:
        ValueError: it is not a part of a chat message.
    """
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str()}}:
            return "[image]"
        case {"type": "input_audio", "input_audio": {"data": str(), "format": "mp3" | "wav"}}:
            return "[audio]"
    raise ValueError("a part of the content is not a text, an image or audio")


def _is_call(call: Any) -> bool:
    match call:
        case {"id": str(), "function": {"name": str(), "arguments": str()}}:
            return True
    return False


def last_question(messages: Sequence[Message]) -> str:
    """The last user message's text; empty if there is none."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
