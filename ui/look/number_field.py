"""A number that a form takes. One out of range is refused in a sentence; a slider would change it without a word."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid


@dataclass(frozen=True)
class NumberField:
    """A number's label, its range, and whether it is whole. `unit` follows the label."""

    label: str
    low: float
    high: float
    whole: bool = False
    unit: str = ""

    def component(self, value: float, **options: Any) -> gr.Number:
        """The box to type it in. Gradio does not know the range: it would answer with an error of its own."""
        unit = f" ({self.unit})" if self.unit else ""
        return gr.Number(value=value, label=f"{self.label}{unit}", **options)

    def read(self, value: float | None) -> float:
        """The typed number.

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
