"""The settings of an answer that owners type: temperature and length. A number out of range is refused, not changed."""

from dataclasses import dataclass
from typing import Any

from models.errors import Invalid
from models.messages import Message


@dataclass(frozen=True)
class NumberField:
    """A number that a form takes: its label for errors, and the range."""

    label: str
    low: float
    high: float
    whole: bool = False

    def read(self, value: float | None) -> float:
        """The number.

        Raises:
            Invalid: it is missing, out of range, or not whole; the message has the range.
        """
        kind = "a whole number" if self.whole else "a number"
        rule = f"{self.label}: use {kind} from {self.low:,g} to {self.high:,g}"
        if value is None:
            raise Invalid(f"{rule}.")
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise Invalid(f"{rule}, not {value:,g}.")
        return value


TEMPERATURE = NumberField("Temperature", 0, 2)
ANSWER_LENGTH = NumberField("Maximum answer length", 1, 32_768, whole=True)


def request_options(temperature: float | None, max_tokens: float | None) -> dict[str, Any]:
    """The request's fields for these settings.

    Raises:
        Invalid: one of them is out of range.
    """
    return {"temperature": float(TEMPERATURE.read(temperature)), "max_tokens": int(ANSWER_LENGTH.read(max_tokens))}


def system_messages(system: str | None) -> list[Message]:
    """The system prompt as a message; none if it is empty."""
    return [Message(role="system", content=system.strip())] if system and system.strip() else []
