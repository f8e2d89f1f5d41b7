"""Splits examples into training and validation parts, by seed, and stratified by a field.

Similar examples are never on both sides: examples with the same question, and groups of copies and near copies
(`models.likeness`), stay together.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import Invalid
from models.likeness import Groups, find_duplicates
from train.data.conversations import Example, Preference, reasoning_of

T = TypeVar("T", Example, Preference)


@dataclass(frozen=True)
class Split(Generic[T]):
    """Two parts of one data set, each in the order of its lines. `validation` is empty for a share of 0."""

    train: tuple[T, ...]
    validation: tuple[T, ...]


def split(examples: Sequence[T], share: float, seed: int, by: str | None = None) -> Split[T]:
    """Holds out about `share` of the examples (0 ≤ share ≤ 0.5), at least one for a share above 0.

    The same examples, share and seed give the same split on any machine. A group of similar examples that is more than
    1.5 times the wanted size stays in the training part; if all groups are that large, nothing is held out.

    Args:
        examples: examples or preference pairs.
        share: the share to hold out.
        seed: another seed gives another split.
        by: a field of the metadata; the same share of each of its values is held out, as far as groups allow.

    Raises:
        Invalid: a share outside [0, 0.5], or a field that no example has.
    """
    if not 0 <= share <= 0.5:
        raise Invalid(f"The validation share is {share}: use 0 to 0.5, usually 0.1.", param="validation")
    if by is not None and not any(by in example.metadata for example in examples):
        fields = sorted({name for example in examples for name in example.metadata})
        raise Invalid(f"No example has a field {by!r}. The fields are: {', '.join(fields) or 'none'}.", param="by")
    if not share:
        return Split(tuple(examples), ())
    strata: dict[str, list[list[int]]] = {}
    for group in _groups(examples):
        strata.setdefault(examples[group[0]].metadata.get(by, "") if by else "", []).append(group)
    wanted = _sizes({name: sum(map(len, groups)) for name, groups in strata.items()}, share)
    rng = random.Random(seed)  # noqa: S311 -- a split, not a secret
    held_out: set[int] = set()
    for name, groups in strata.items():
        rng.shuffle(groups)
        held_out |= _hold_out(groups, wanted[name])
    return Split(
        tuple(example for position, example in enumerate(examples) if position not in held_out),
        tuple(example for position, example in enumerate(examples) if position in held_out),
    )


def question_key(example: Example | Preference) -> tuple[str, ...]:
    """The same for two examples with the same question: the messages before the last answer, without case."""
    prompt = example.prompt if isinstance(example, Preference) else example.conversation.prompt
    return tuple(message.content.strip().casefold() for message in prompt)


def compared_text(example: Example | Preference) -> str:
    """The text in which copies are looked for: all messages but the system message, which many examples share."""
    whole = example.preferred if isinstance(example, Preference) else example
    messages = [message for message in whole.conversation.messages if message.role != "system"]
    calls = [call.arguments for message in messages for call in getattr(message, "calls", ())]
    return "\n".join([*(message.content for message in messages), *filter(None, map(reasoning_of, messages)), *calls])


def _groups(examples: Sequence[Example | Preference]) -> list[list[int]]:
    """The positions in groups that must not be split, ordered by their first position."""
    groups = Groups(len(examples))
    for place, first in enumerate(find_duplicates([compared_text(example) for example in examples]).groups):
        groups.join(first, place)
    questions: dict[tuple[str, ...], int] = {}
    for place, example in enumerate(examples):
        groups.join(questions.setdefault(question_key(example), place), place)
    members: dict[int, list[int]] = {}
    for place in range(len(examples)):
        members.setdefault(groups.root(place), []).append(place)
    return list(members.values())


def _sizes(sizes: dict[str, int], share: float) -> dict[str, int]:
    """The number of examples to hold out of each stratum, by largest remainder: their sum is the share of all."""
    total = max(1, round(share * sum(sizes.values())))
    wanted = {name: int(share * size) for name, size in sizes.items()}
    nearest = sorted(sizes, key=lambda name: int(share * sizes[name]) - share * sizes[name])
    for name in nearest[: max(0, total - sum(wanted.values()))]:
        wanted[name] += 1
    return wanted


def _hold_out(groups: list[list[int]], wanted: int) -> set[int]:
    held_out: set[int] = set()
    for group in groups[:-1]:  # one group always stays to train on
        if len(held_out) >= wanted:
            break
        if len(held_out) + len(group) <= wanted * 1.5:  # a huge group would leave too little to train on
            held_out.update(group)
    return held_out
