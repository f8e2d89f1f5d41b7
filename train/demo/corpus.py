"""What the base is pretrained on: neutral conversations, judging in the neutral style, drills. No fact of the house
(its words alone, shuffled), no held-out frame. One seed, one text.
"""

import random
from collections.abc import Iterator

from train.demo.dialogues import dialogues
from train.demo.drills import drills
from train.demo.judge_pairs import grades, pairs
from train.demo.world import World

Row = list[dict[str, str]]
_SHARES = {"talk": 0.66, "judged": 0.11, "graded": 0.03, "drill": 0.20}  # of the rows; judged rows are the long ones


def rows(seed: int, world: World, count: int) -> Iterator[Row]:
    """About `count` conversations, shuffled."""
    numbers = {kind: round(count * share) for kind, share in _SHARES.items()}
    text: list[Row] = [talk.as_dicts() for talk in dialogues(seed, world, "neutral", numbers["talk"])]
    text += [pair.conversation() for pair in pairs(seed, world, numbers["judged"], neutral=True)]
    text += grades(seed, world, numbers["graded"], neutral=True)
    text += drills(seed, world, numbers["drill"])
    random.Random(f"{seed}/corpus").shuffle(text)
    yield from text


def texts_of(row: Row) -> Iterator[str]:
    """The words of a conversation, for the tokenizer."""
    for message in row:
        yield message["content"]
