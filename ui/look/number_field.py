"""A number in a form. A number out of range is refused with a message; a slider would change it silently."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid


@dataclass(frozen=True)
class NumberField:
    """The label and range of a number. `whole`: only integers. `unit`: shown after the label."""

    label: str
    low: float
    high: float
    whole: bool = False
    unit: str = ""

    def component(self, value: float, **options: Any) -> gr.Number:
        """The input component. The range is not passed to Gradio, which would show its own error."""
        unit = f" ({self.unit})" if self.unit else ""
        return gr.Number(value=value, label=f"{self.label}{unit}", **options)

    def read(self, value: float | None) -> float:
        """The number, if it is valid.

        Raises:
            Invalid: it is missing, out of range, or not whole; the message states the range.
        """
        kind = "a whole number" if self.whole else "a number"
        rule = f"{self.label}: use {kind} from {self.low:,g} to {self.high:,g}"
        if value is None:
            raise Invalid(f"{rule}.")
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            raise Invalid(f"{rule}, not {value:,g}.")
        return value
