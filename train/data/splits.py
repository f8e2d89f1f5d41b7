"""Divides examples into those that are learnt and those that only measure the loss, by seed.

Copies never stand on both sides: examples with the same prompt go together. Strata by a field are not known here.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import Invalid
from train.data.conversations import Example


@dataclass(frozen=True)
class Split:
    """Two parts of one set, each in the order of its lines. `validation` is empty where none was asked for."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]


def split(examples: Sequence[Example], share: float, seed: int) -> Split:
    """Holds out about `share` of the examples (0 ≤ share ≤ 0.5); one at least where share is above 0, and none
    where too many share a prompt: a group that is over half as large again as what is wanted stays to be learnt.

    The same examples, share and seed give the same split, on any machine.

    Raises:
        Invalid: a share outside [0, 0.5].
    """
    if not 0 <= share <= 0.5:
        raise Invalid(f"The validation share is {share}: use 0 to 0.5, 0.1 as a rule.", param="validation")
    groups: dict[tuple[str, ...], list[int]] = {}
    for position, example in enumerate(examples):
        key = tuple(message.content.strip().casefold() for message in example.conversation.prompt)
        groups.setdefault(key, []).append(position)
    order = list(groups.values())
    random.Random(seed).shuffle(order)  # noqa: S311 -- a split, not a secret
    wanted = max(1, round(share * len(examples))) if share else 0
    held: set[int] = set()
    for group in order[:-1]:  # one group always stays to learn from
        if len(held) >= wanted:
            break
        if len(held) + len(group) <= max(wanted, 1) * 1.5:  # a huge group would swallow the training side
            held.update(group)
    return Split(
        tuple(example for position, example in enumerate(examples) if position not in held),
        tuple(example for position, example in enumerate(examples) if position in held),
    )
