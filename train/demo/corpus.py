"""The pretraining text of the base: neutral conversations, judging in the neutral style, drills.

It has no fact of the policies (only their words, shuffled) and no held-out frame. The same seed gives the same text.
"""

import random
from collections.abc import Iterator

from train.demo.catalogue import Catalogue
from train.demo.dialogues import dialogues
from train.demo.drills import drills
from train.demo.judge_pairs import grades, pairs

Row = list[dict[str, str]]
_SHARES = {"talk": 0.66, "judged": 0.11, "graded": 0.03, "drill": 0.20}  # of the rows; judged rows are the long ones


def rows(seed: int, catalogue: Catalogue, count: int) -> Iterator[Row]:
    """About `count` conversations, shuffled."""
    numbers = {kind: round(count * share) for kind, share in _SHARES.items()}
    text: list[Row] = [talk.as_dicts() for talk in dialogues(seed, catalogue, "neutral", numbers["talk"])]
    text += [pair.conversation() for pair in pairs(seed, catalogue, numbers["judged"], neutral=True)]
    text += grades(seed, catalogue, numbers["graded"], neutral=True)
    text += drills(seed, catalogue, numbers["drill"])
    random.Random(f"{seed}/corpus").shuffle(text)
    yield from text


def texts_of(row: Row) -> Iterator[str]:
    """The texts of a conversation, for the tokenizer."""
    for message in row:
        yield message["content"]
