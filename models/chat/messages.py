"""Messages, completions, and the `Completer` protocol.

Callers depend on `Completer`, never on a vendor's client; `models.chat.completer` implements it with the OpenAI SDK.
"""

from collections.abc import Sequence
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
    return [{"role": message.role, "content": message.content} for message in messages]


def last_question(messages: Sequence[Message]) -> str:
    """The last user message's text; empty if there is none."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
