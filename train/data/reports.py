"""The result of a check: one report for Python, the command line, the gateway and the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.errors import Invalid
from train.data.conversations import ChatMessage, Example, Preference, Problem
from train.data.lengths import histogram, spread


@dataclass(frozen=True)
class CheckedData:
    """The good examples and all problems, in order of lines.

    `lines` is the number of rows read, `format` the format of the first rows, and `validation` the report of the
    validation data.
    """

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]
    preferences: tuple[Preference, ...] = ()
    source: str = "memory"
    format: str | None = None
    lines: int = 0
    validation: "CheckedData | None" = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which a line, or the whole file, is left out."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems of lines that are used."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def left_out(self) -> int:
        """The number of lines that are left out."""
        return len({problem.line for problem in self.errors if problem.line})

    @property
    def labels(self) -> dict[str, int] | None:
        """The number of good and of bad answers, in data for KTO; None in other data."""
        counts = Counter(example.label for example in self.examples if example.label is not None)
        return {"good": counts[True], "bad": counts[False]} if counts else None

    @property
    def usable(self) -> bool:
        """Whether there are enough examples to train on."""
        return not any(problem.line == 0 for problem in self.errors)

    def passes(self, strict: bool = False) -> bool:
        """Whether there is no error, with `strict` no warning either, in the data and in the validation data."""
        parts = (self, self.validation) if self.validation else (self,)
        return not any(part.errors or (strict and part.problems) for part in parts)

    @property
    def codes(self) -> dict[str, int]:
        """The number of problems of each code, the most frequent first."""
        return dict(Counter(problem.code for problem in self.problems).most_common())

    @property
    def characters(self) -> tuple[int, ...]:
        """The length of each example in characters, over all its messages."""
        return tuple(sum(len(message.content) for message in messages) for messages in self._conversations())

    @property
    def turns(self) -> tuple[int, ...]:
        """The number of answers in each example."""
        return tuple(sum(message.role == "assistant" for message in messages) for messages in self._conversations())

    def to_json(self) -> dict[str, Any]:
        """The report for programs, without the examples themselves."""
        return {
            "object": "parley.data_report",
            "source": self.source,
            "format": self.format,
            "lines": self.lines,
            "examples": len(self.examples),
            "preferences": len(self.preferences),
            "labels": self.labels,
            "left_out": self.left_out,
            "usable": self.usable,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "codes": self.codes,
            "problems": [asdict(problem) for problem in self.problems],
            "characters": _distribution(self.characters),
            "turns": _distribution(self.turns),
            "validation": self.validation.to_json() if self.validation else None,
        }

    def _conversations(self) -> list[tuple[ChatMessage, ...]]:
        pairs = [(*pair.prompt, *pair.chosen) for pair in self.preferences]
        return [example.conversation.messages for example in self.examples] + pairs


class UnusableData(Invalid):
    """The data cannot be used for training; `problems` has the reasons, line by line."""

    exit_code = 1

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message, param="data", code="invalid_training_data")
        self.problems = problems


def _distribution(values: Sequence[int]) -> dict[str, Any] | None:
    """Percentiles and histogram of lengths; None if there are none."""
    if not values:
        return None
    return asdict(spread(values)) | {"histogram": [asdict(bar) for bar in histogram(values)]}
