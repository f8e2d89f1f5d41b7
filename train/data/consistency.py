"""Whether the examples of a set agree with one another: one system prompt, one form of answer.

It looks at whole sets; where the odd ones are few each is told at its line, where there is no rule the set is told.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from train.data.conversations import Example, Problem, ToolUse

_RULE = 0.8  # from this share on something is the rule of the set, and the rest are exceptions
_FEWEST = 5  # of fewer examples nothing can be said


def check_consistency(examples: Sequence[Example]) -> Iterator[Problem]:
    """The problems of a set: inconsistent system prompts, and answers of which some are JSON and some prose."""
    if len(examples) < _FEWEST:
        return
    yield from _systems(examples)
    by_system: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        by_system[system_of(example)].append(example)
    for group in by_system.values():  # another system prompt may ask for another form
        if len(group) >= _FEWEST:
            yield from _forms(group)


def system_of(example: Example) -> str:
    """The example's system message, "" where it has none."""
    first = example.conversation.messages[0]
    return first.content.strip() if first.role == "system" else ""


def _systems(examples: Sequence[Example]) -> Iterator[Problem]:
    counts = Counter(system_of(example) for example in examples)
    (usual, most), kinds = counts.most_common(1)[0], len(counts)
    share = most / len(examples)
    if kinds == 1 or kinds > len(examples) / 2:  # one for all, or one each: a context that belongs to its question
        return
    mend = "give all examples the system prompt that will be served"
    if share < _RULE:
        wrong = f"{kinds} different system prompts, of which the most frequent is in {share:.0%} of the lines"
        yield Problem(0, "warning", wrong, mend, "inconsistent-system")
        return
    for example in examples:
        own = system_of(example)
        if own != usual:
            has = "another system prompt than" if own and usual else "no system prompt, unlike"
            if not usual:
                has = "a system prompt, unlike"
            wrong = f"{has} {share:.0%} of the lines"
            yield Problem(example.line, "warning", wrong, mend, "inconsistent-system")


def _forms(group: Sequence[Example]) -> Iterator[Problem]:
    forms = {example.line: form for example in group if (form := _form(example))}
    jsons = sum(form == "JSON" for form in forms.values())
    if not jsons or jsons == len(forms):
        return
    share = jsons / len(forms)
    mend = "answer in one form, or ask for the form in the system prompt"
    if 1 - _RULE < share < _RULE:
        wrong = f"{share:.0%} of the answers are JSON and the others are not"
        yield Problem(0, "warning", wrong, mend, "inconsistent-format")
        return
    usual = "JSON" if share >= _RULE else "prose"
    for line, form in forms.items():
        if form != usual:
            wrong = f"the answer is {form}, where {max(share, 1 - share):.0%} of the answers are {usual}"
            yield Problem(line, "warning", wrong, mend, "inconsistent-format")


def _form(example: Example) -> str | None:
    """What the last learnt answer is; None where it calls tools."""
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
