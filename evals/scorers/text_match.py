"""Small functions that score one answer by its words: made by small factories, each from 0 to 1. They ask no model.

score = topic_coverage()
score(Sample(topics=(("refund", "money back"),)), "You get your money back.")   # 1.0
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from models.messages import Message

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Sample:
    """What an answer is held against. Each topic is a group of keywords, of which any one covers it.

    `prompt` names the question: samples that share it are clustered together. `also` are further answers that are
    as right as the expected one; the best of them counts. `messages` is what the model was asked, where that is known:
    the user's words last, and before them the model's own conversation.
    """

    prompt: str = ""
    expected: str | None = None
    topics: tuple[tuple[str, ...], ...] = ()
    category: str | None = None
    also: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    messages: tuple[Message, ...] = ()

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every right answer, the expected one first; empty where none is known."""
        return () if self.expected is None else (self.expected, *self.also)


Scorer = Callable[[Sample, str], float | None]
"""A score of an answer, or None where the sample has nothing to hold it against."""


def words(text: str) -> list[str]:
    """The words of a text, lower case; a number or a contraction is one word."""
    return _WORD.findall(text.casefold())


def exact(*, ignore_case: bool = True) -> Scorer:
    """1 where the answer is the expected one, white space aside."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        said = _plain(answer, ignore_case)
        return float(any(said == _plain(right, ignore_case) for right in sample.accepted))

    return score


def partial(*, ignore_case: bool = True) -> Scorer:
    """1 where the expected text stands somewhere in the answer as whole words: `12` is not in `123`."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        said = _plain(answer, ignore_case)
        return float(any(_whole(_plain(right, ignore_case)).search(said) for right in sample.accepted))

    return score


def includes(*, ignore_case: bool = True) -> Scorer:
    """1 where the expected text stands anywhere in the answer, inside words too: `12` is in `123`."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        said = _plain(answer, ignore_case)
        return float(any(_plain(right, ignore_case) in said for right in sample.accepted))

    return score


def topic_coverage() -> Scorer:
    """The share of the sample's topics that the answer covers, by any keyword of each, as whole words.

    A keyword that ends in `*` covers every word that begins so: `refund*` covers «refunded».
    """

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.topics:
            return None
        text = _plain(answer, True)
        covered = sum(any(_keyword(word).search(text) for word in group) for group in sample.topics)
        return covered / len(sample.topics)

    return score


def length(low: int = 1, high: int = 200) -> Scorer:
    """1 where the answer has between `low` and `high` words, both included."""

    def score(sample: Sample, answer: str) -> float:
        return float(low <= len(words(answer)) <= high)

    return score


def word_count() -> Scorer:
    """The number of words: no score, a measure to put beside one."""

    def score(sample: Sample, answer: str) -> float:
        return float(len(words(answer)))

    return score


def repetition(n: int = 3) -> Scorer:
    """The share of word n-grams that were there before in the same answer: 0 is none, and good.

    One minus distinct-n (Li et al. 2016, arXiv:1510.03055). 0 for an answer of fewer than n words.
    """

    def score(sample: Sample, answer: str) -> float:
        text = words(answer)
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        return 1 - len(set(grams)) / len(grams) if grams else 0.0

    return score


def _plain(text: str, ignore_case: bool) -> str:
    text = " ".join(text.split())
    return text.casefold() if ignore_case else text


@lru_cache(maxsize=4096)
def _whole(text: str) -> re.Pattern[str]:
    # Not \b, which would not hold at the ends of "#12" or "10 %".
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


@lru_cache(maxsize=4096)
def _keyword(word: str) -> re.Pattern[str]:
    plain = _plain(word, True)
    if plain.endswith("*"):
        return re.compile(rf"(?<!\w){re.escape(plain[:-1])}")
    return _whole(plain)
