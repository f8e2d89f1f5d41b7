"""Divides examples into those that are learnt and those that only measure the loss, by seed, and evenly by a field.

What is alike never stands on both sides: examples with the same question, and copies and near copies as a whole
(`duplicates`), go together.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from models.errors import Invalid
from train.data.conversations import Example, Preference
from train.data.duplicates import Groups, likeness

T = TypeVar("T", Example, Preference)


@dataclass(frozen=True)
class Split(Generic[T]):
    """Two parts of one set, each in the order of its lines. `validation` is empty where none was asked for."""

    train: tuple[T, ...]
    validation: tuple[T, ...]


def split(examples: Sequence[T], share: float, seed: int, by: str | None = None) -> Split[T]:
    """Holds out about `share` of the examples (0 ≤ share ≤ 0.5); one at least where share is above 0, and none
    where too many are alike: a group that is over half as large again as what is wanted stays to be learnt.

    The same examples, share and seed give the same split, on any machine.

    Args:
        examples: examples or preference pairs.
        share: the part to hold out.
        seed: another seed, another split.
        by: a field of the metadata; each of its values is then held out by the same share, as far as groups allow.

    Raises:
        Invalid: a share outside [0, 0.5], or a field that no example has.
    """
    if not 0 <= share <= 0.5:
        raise Invalid(f"The validation share is {share}: use 0 to 0.5, 0.1 as a rule.", param="validation")
    if by is not None and not any(by in example.metadata for example in examples):
        fields = sorted({name for example in examples for name in example.metadata})
        raise Invalid(f"No example has a field {by!r}; there are: {', '.join(fields) or 'none'}.", param="by")
    if not share:
        return Split(tuple(examples), ())
    strata: dict[str, list[list[int]]] = {}
    for group in _alike(examples):
        strata.setdefault(examples[group[0]].metadata.get(by, "") if by else "", []).append(group)
    wanted = _wanted({name: sum(map(len, groups)) for name, groups in strata.items()}, share)
    chance = random.Random(seed)  # noqa: S311 -- a split, not a secret
    held: set[int] = set()
    for name, groups in strata.items():
        chance.shuffle(groups)
        held |= _held(groups, wanted[name])
    return Split(
        tuple(example for position, example in enumerate(examples) if position not in held),
        tuple(example for position, example in enumerate(examples) if position in held),
    )


def question_of(example: Example | Preference) -> tuple[str, ...]:
    """What two examples share when they ask the same: the words before the last answer, capitals aside."""
    prompt = example.prompt if isinstance(example, Preference) else example.conversation.prompt
    return tuple(message.content.strip().casefold() for message in prompt)


def words_of(example: Example | Preference) -> str:
    """What is compared to find copies: all that was said but the system message, which many examples share."""
    whole = example.preferred if isinstance(example, Preference) else example
    said = [message for message in whole.conversation.messages if message.role != "system"]
    calls = [call.arguments for message in said for call in getattr(message, "calls", ())]
    return "\n".join([*(message.content for message in said), *calls])


def _alike(examples: Sequence[Example | Preference]) -> list[list[int]]:
    """The positions, in groups of what may not be divided; groups by their first position."""
    groups = Groups(len(examples))
    for place, first in enumerate(likeness([words_of(example) for example in examples]).groups):
        groups.join(first, place)
    asked: dict[tuple[str, ...], int] = {}
    for place, example in enumerate(examples):
        groups.join(asked.setdefault(question_of(example), place), place)
    found: dict[int, list[int]] = {}
    for place in range(len(examples)):
        found.setdefault(groups.root(place), []).append(place)
    return list(found.values())


def _wanted(sizes: dict[str, int], share: float) -> dict[str, int]:
    """How many to hold out of each stratum, by largest remainder: together they are the share of all."""
    total = max(1, round(share * sum(sizes.values())))
    wanted = {name: int(share * size) for name, size in sizes.items()}
    nearest = sorted(sizes, key=lambda name: int(share * sizes[name]) - share * sizes[name])
    for name in nearest[: max(0, total - sum(wanted.values()))]:
        wanted[name] += 1
    return wanted


def _held(groups: list[list[int]], wanted: int) -> set[int]:
    held: set[int] = set()
    for group in groups[:-1]:  # one group always stays to learn from
        if len(held) >= wanted:
            break
        if len(held) + len(group) <= wanted * 1.5:  # a huge group would swallow the training side
            held.update(group)
    return held
