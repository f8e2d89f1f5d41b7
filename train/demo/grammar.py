"""The grammar of the frames: `(a|b|)` picks one alternative, `{slot}` is filled later."""

import itertools
import random
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

_GROUP = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{([a-z_]+)\}")
_SPACES = re.compile(r"\s+")
_SPACE_BEFORE_MARK = re.compile(r" ([,.?!:])")


def pick(rng: random.Random, frame: str) -> str:
    """A random sentence of a frame, with its slots unfilled."""
    while group := _GROUP.search(frame):
        frame = frame[: group.start()] + rng.choice(group[1].split("|")) + frame[group.end() :]
    return _tidy(frame)


def sentences(frame: str) -> Iterator[str]:
    """All sentences of a frame, with their slots unfilled."""
    group = _GROUP.search(frame)
    if group is None:
        yield _tidy(frame)
        return
    for choice in group[1].split("|"):
        yield from sentences(frame[: group.start()] + choice + frame[group.end() :])


@lru_cache(maxsize=1 << 14)  # the frames of a style are compared for every answer
def slots_of(sentence: str) -> frozenset[str]:
    """The names of the slots in a sentence or frame."""
    return frozenset(_SLOT.findall(sentence))


def flat(frame: str) -> str:
    """All words of a frame, of every alternative, without slots and brackets."""
    return re.sub(r"[()|]", " ", _SLOT.sub(" ", frame))


def fill(sentence: str, values: Mapping[str, str]) -> str:
    """The sentence with its slots filled. Raises KeyError for a slot without a value."""
    return _SLOT.sub(lambda slot: values[slot[1]], sentence)


def parts(sentence: str) -> list[tuple[str, bool]]:
    """The sentence split into (text, whether it is the name of a slot), in order."""
    pieces = _SLOT.split(sentence)
    return [(piece, number % 2 == 1) for number, piece in enumerate(pieces) if piece or number % 2]


def skeleton(text: str) -> str:
    """The lower-case words, with `_` for each slot. Sentences that differ only in slots have the same skeleton."""
    words = re.findall(r"[a-z0-9']+|_", _SLOT.sub(" _ ", text).lower())
    return " ".join(word for word, _ in itertools.groupby(words))


def _tidy(text: str) -> str:
    return _SPACE_BEFORE_MARK.sub(r"\1", _SPACES.sub(" ", text)).strip()
