"""What was found in a set of training data: one report for Python, the command line, the gateway and the page.

It holds and shows results; what they are is `checks`' business.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from models.errors import Invalid
from train.data.conversations import Example, Preference, Problem, Said


@dataclass(frozen=True)
class CheckedData:
    """What is good, and all that was found, in the order of lines.

    `lines` counts the rows that were read, `format` is the one that the file began with, and `validation` is the same
    for validation data that was given beside it.
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
        """The problems for which something was left out, or the whole refused."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems with which a line is used all the same."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")

    @property
    def left_out(self) -> int:
        """How many lines are left out."""
        return len({problem.line for problem in self.errors if problem.line})

    @property
    def usable(self) -> bool:
        """Whether there is enough to train on."""
        return not any(problem.line == 0 for problem in self.errors)

    def passes(self, strict: bool = False) -> bool:
        """Whether there is no error at all, in the validation data either; with `strict` no warning."""
        parts = (self, self.validation) if self.validation else (self,)
        return not any(part.errors or (strict and part.problems) for part in parts)

    @property
    def codes(self) -> dict[str, int]:
        """How many problems there are of each code, the most frequent first."""
        return dict(Counter(problem.code for problem in self.problems).most_common())

    @property
    def characters(self) -> tuple[int, ...]:
        """The length of each example in characters, all its messages together."""
        return tuple(sum(len(said.content) for said in messages) for messages in self._said())

    @property
    def turns(self) -> tuple[int, ...]:
        """How many answers each example has."""
        return tuple(sum(said.role == "assistant" for said in messages) for messages in self._said())

    def as_json(self) -> dict[str, Any]:
        """The report as every door gives it out. The examples themselves are not in it."""
        return {
            "object": "parley.data_report",
            "source": self.source,
            "format": self.format,
            "lines": self.lines,
            "examples": len(self.examples),
            "preferences": len(self.preferences),
            "left_out": self.left_out,
            "usable": self.usable,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "codes": self.codes,
            "problems": [asdict(problem) for problem in self.problems],
            "characters": _distribution(self.characters),
            "turns": _distribution(self.turns),
            "validation": self.validation.as_json() if self.validation else None,
        }

    def _said(self) -> list[tuple[Said, ...]]:
        pairs = [(*pair.prompt, *pair.chosen) for pair in self.preferences]
        return [example.conversation.messages for example in self.examples] + pairs


class UnusableData(Invalid):
    """The data cannot be trained on; `problems` says why, line by line."""

    exit_code = 1

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message, param="data", code="invalid_training_data")
        self.problems = problems


def _distribution(values: Sequence[int]) -> dict[str, Any] | None:
    """Spread and bars of lengths; None without any."""
    from train.planning.counting import histogram, spread  # here, because counting is made of checks, and those of this

    if not values:
        return None
    return asdict(spread(values)) | {"histogram": [asdict(one) for one in histogram(values)]}
