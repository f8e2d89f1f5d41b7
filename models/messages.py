"""What is said: messages, completions, and the protocol that everything which asks a model depends on.

Callers take a `Completer`, never a vendor's client; `models.completer` has the one over the OpenAI SDK.
"""

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

Role = Literal["system", "user", "assistant"]


class Message(BaseModel):
    """One message of a conversation."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Role
    content: str


class Token(BaseModel):
    """One token of an answer, and the likeliest tokens at its place with their log-probabilities, itself among them."""

    model_config = ConfigDict(frozen=True)

    text: str
    likeliest: tuple[tuple[str, float], ...]


class Completion(BaseModel):
    """A model's answer, with what it cost. Times in seconds; counts are None where the model did not say.

    `tokens` has the answer's tokens where log-probabilities were asked for and came back; else it is empty.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    ttft_s: float | None = None
    seconds: float = 0.0
    finish_reason: str | None = None
    tokens: tuple[Token, ...] = ()

    @property
    def tokens_per_second(self) -> float | None:
        """Completion tokens for each second after the first token; None where it cannot be said."""
        if self.completion_tokens is None or self.completion_tokens < 2:
            return None
        generating = self.seconds - (self.ttft_s or 0.0)
        return (self.completion_tokens - 1) / generating if generating > 0 else None


class Completer(Protocol):
    """Asks one model. Options are OpenAI's: temperature, max_tokens, seed, response_format, ….

    Raises:
        ParleyError: the model is unknown, not ready or failed; nothing else.
    """

    async def __call__(self, messages: Sequence[Message], **options: Any) -> Completion: ...


def as_dicts(messages: Sequence[Message]) -> list[Any]:
    """Messages as the API's JSON has them: `[{"role", "content"}]`, typed loosely as the SDK's unions demand."""
    return [{"role": message.role, "content": message.content} for message in messages]


def last_question(messages: Sequence[Message]) -> str:
    """The last thing the user said; empty where the user said nothing."""
    return next((m.content for m in reversed(messages) if m.role == "user"), "")
