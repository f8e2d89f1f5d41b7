"""Whether the examples of a data set are consistent: one system prompt, one format of answers.

A few exceptions are reported at their lines. If there is no clear rule, the problem is of the whole set (line 0).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from train.data.conversations import Example, Problem, ToolUse

_RULE = 0.8  # from this share on something is the rule, and the rest are exceptions
_FEWEST = 5  # with fewer examples nothing is reported


def check_consistency(examples: Sequence[Example]) -> Iterator[Problem]:
    """The problems of a data set: inconsistent system prompts, and a mix of JSON and prose answers."""
    if len(examples) < _FEWEST:
        return
    yield from _check_systems(examples)
    by_system: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_system[system_of(example)].append(example)
    for group in by_system.values():  # another system prompt may ask for another format
        if len(group) >= _FEWEST:
            yield from _check_answer_formats(group)


def system_of(example: Example) -> str:
    """The system message of the example, or ""."""
    first = example.conversation.messages[0]
    return first.content.strip() if first.role == "system" else ""


def _check_systems(examples: Sequence[Example]) -> Iterator[Problem]:
    counts = Counter(system_of(example) for example in examples)
    (usual, most), kinds = counts.most_common(1)[0], len(counts)
    share = most / len(examples)
    if kinds == 1 or kinds > len(examples) / 2:  # one for all, or one for each: it is part of the question
        return
    mend = "give all examples the system prompt that you will use in production"
    if share < _RULE:
        message = f"{kinds} different system prompts; the most frequent one is in {share:.0%} of the lines"
        yield Problem(0, "warning", message, mend, "inconsistent-system")
        return
    for example in examples:
        system = system_of(example)
        if system != usual:
            difference = "another system prompt than" if system and usual else "no system prompt, unlike"
            if not usual:
                difference = "a system prompt, unlike"
            message = f"{difference} {share:.0%} of the lines"
            yield Problem(example.line, "warning", message, mend, "inconsistent-system")


def _check_answer_formats(group: Sequence[Example]) -> Iterator[Problem]:
    formats = {example.line: format_ for example in group if (format_ := _answer_format(example))}
    number = sum(format_ == "JSON" for format_ in formats.values())
    if not number or number == len(formats):
        return
    share = number / len(formats)
    mend = "use one format, or ask for the format in the system prompt"
    if 1 - _RULE < share < _RULE:
        message = f"{share:.0%} of the answers are JSON, the others are not"
        yield Problem(0, "warning", message, mend, "inconsistent-format")
        return
    usual = "JSON" if share >= _RULE else "prose"
    for line, format_ in formats.items():
        if format_ != usual:
            message = f"the answer is {format_}, but {max(share, 1 - share):.0%} of the answers are {usual}"
            yield Problem(line, "warning", message, mend, "inconsistent-format")


def _answer_format(example: Example) -> str | None:
    """The format of the last learnt answer; None for tool calls."""
    if not example.learnt:
        return None
    answer = example.conversation.messages[example.learnt[-1]]
    if isinstance(answer, ToolUse):
        return None
    text = answer.content.strip()
    if text.startswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    if not text.startswith(("{", "[")):
        return "prose"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return "broken JSON" if text.startswith("{") and '"' in text else "prose"
    return "JSON"
