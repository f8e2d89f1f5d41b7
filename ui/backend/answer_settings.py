"""The settings for answers in Chat and Compare: system prompt, temperature and maximum length."""

from typing import Any

from models.chat.messages import Message
from ui.look.number_field import NumberField

TEMPERATURE = NumberField("Temperature", 0, 2, unit="0 to 2")
ANSWER_LENGTH = NumberField("Maximum answer length", 1, 32_768, whole=True, unit="tokens")


def request_options(temperature: float | None, max_tokens: float | None) -> dict[str, Any]:
    """The request's fields for these settings.

    Raises:
        Invalid: a value is missing or out of range.
    """
    return {"temperature": float(TEMPERATURE.read(temperature)), "max_tokens": int(ANSWER_LENGTH.read(max_tokens))}


def system_messages(system: str | None) -> list[Message]:
    """The system prompt as a message; none if it is empty."""
    return [Message(role="system", content=system.strip())] if system and system.strip() else []
