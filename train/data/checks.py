"""Whether conversations can be learnt from: each problem with its line, how bad it is, and what mends it.

Errors leave an example out, warnings keep it; both are reported. Lengths in tokens are not known here, because
they need the model's own tokenizer: `tokens` reports those in the same form.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from models.errors import Invalid
from train.data.conversations import Conversation, Example, Problem
from train.data.readers import Columns, from_rows, read

FEWEST = 10  # OpenAI's minimum
FEW = 50  # below this a tuned model mostly learns the examples by heart


@dataclass(frozen=True)
class CheckedData:
    """What is good, and all that was found. `left_out` counts examples (lines) with an error."""

    examples: tuple[Example, ...]
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems for which something was left out, or the whole refused."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def left_out(self) -> int:
        """How many lines are left out."""
        return len({problem.line for problem in self.errors if problem.line})

    @property
    def usable(self) -> bool:
        """Whether there is enough to train on."""
        return not any(problem.line == 0 for problem in self.errors)


class UnusableData(Invalid):
    """The data cannot be trained on; `problems` says why, line by line."""

    exit_code = 1

    def __init__(self, message: str, problems: tuple[Problem, ...]) -> None:
        super().__init__(message, param="data", code="invalid_training_data")
        self.problems = problems


Data = str | Path | Iterable[Example | Conversation | Mapping[str, Any]]


def check(data: Data, columns: Columns | None = None) -> CheckedData:
    """Reads and checks training data.

    Args:
        data: a file (.jsonl, .csv, .tsv), or examples, conversations or `{"messages": …}` rows in memory.
        columns: names the columns of a CSV.

    Returns:
        The good examples, and every problem in order of lines. Nothing is raised for bad content.

    Raises:
        NotFound, Invalid: the file is missing, of an unknown kind, or lacks the named columns.
    """
    found = read(Path(data), columns) if isinstance(data, str | Path) else _from_memory(data)
    examples: list[Example] = []
    problems: list[Problem] = []
    first_line: dict[Conversation, int] = {}
    for item in found:
        if isinstance(item, Problem):
            problems.append(item)
            continue
        about = list(_check_example(item))
        problems += about
        if any(problem.severity == "error" for problem in about):
            continue
        seen = first_line.setdefault(item.conversation, item.line)
        if seen != item.line:
            problems.append(
                Problem(item.line, "warning", f"the same as line {seen}", "keep one, unless it is meant to weigh more")
            )
        examples.append(item)
    problems += _check_number(len(examples))
    return CheckedData(tuple(examples), tuple(sorted(problems, key=lambda problem: problem.line)))


def require_usable(checked: CheckedData) -> CheckedData:
    """The same data, where it can be trained on.

    Raises:
        UnusableData: it cannot; one line, with all problems on the exception.
    """
    if checked.usable:
        return checked
    reason = next(problem for problem in checked.errors if problem.line == 0)
    raise UnusableData(
        f"The data cannot be trained on: {reason.message}; {checked.left_out} lines have errors. {reason.mend}.",
        checked.problems,
    )


def _from_memory(data: Iterable[Example | Conversation | Mapping[str, Any]]) -> Iterator[Example | Problem]:
    for line, item in enumerate(data, 1):
        if isinstance(item, Example):
            yield item
        elif isinstance(item, Conversation):
            yield Example(line, item)
        else:
            for parsed in from_rows([item]):
                if isinstance(parsed, Problem):
                    yield Problem(line, parsed.severity, parsed.message, parsed.mend)
                else:
                    yield Example(line, parsed.conversation, parsed.unweighted)


def _check_example(example: Example) -> Iterator[Problem]:
    line, messages = example.line, example.conversation.messages
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        yield Problem(line, "error", "the assistant says nothing", "add the answer that should be learnt")
        return
    if not example.learnt:
        yield Problem(line, "error", "every answer has weight 0", "give one answer weight 1, or remove the line")
    for position, message in enumerate(messages, 1):
        if not message.content.strip():
            wrong = f"message {position} ({message.role}) is empty"
            yield Problem(line, "error", wrong, "write it, or remove the message")
        if "\ufffd" in message.content:
            wrong = f"message {position} holds «\ufffd»: its encoding was broken"
            yield Problem(line, "warning", wrong, "export the text again as UTF-8")
    if "system" in roles[1:]:
        yield Problem(line, "error", "a system message that is not the first", "put it first")
    if "user" not in roles:
        yield Problem(line, "warning", "no user message", "add what the user asked, if something was asked")
    turns = [role for role in roles if role != "system"]
    if any(one == other for one, other in pairwise(turns)):
        yield Problem(
            line, "warning", "two messages of one role in a row", "join them: some chat templates refuse this"
        )
    if roles[-1] != "assistant":
        yield Problem(line, "warning", "ends with the user: nothing is learnt there", "add the answer")


def _check_number(examples: int) -> list[Problem]:
    if examples < FEWEST:
        wrong = f"{examples} usable examples, and {FEWEST} are the fewest to learn from"
        return [Problem(0, "error", wrong, f"Add examples: from {FEW} on a style shows")]
    if examples < FEW:
        return [Problem(0, "warning", f"only {examples} examples", f"{FEW} or more teach a style better")]
    return []
