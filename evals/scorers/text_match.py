"""Scorers of an answer's words: exact and partial matches, topic coverage, length, repetition; each 0 to 1.

score = topic_coverage()
score(Sample(topics=(("refund", "money back"),)), "You get your money back.")   # 1.0
"""

import re
from functools import lru_cache

from evals.scorers.sample import Sample, Scorer

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case; a number or a contraction is one word."""
    return _WORD.findall(text.casefold())


def exact(*, ignore_case: bool = True) -> Scorer:
    """1 if the answer equals an accepted one, ignoring white space."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        text = _normalize(answer, ignore_case)
        return float(any(text == _normalize(right, ignore_case) for right in sample.accepted))

    return score


def partial(*, ignore_case: bool = True) -> Scorer:
    """1 if the answer contains an accepted text as whole words: `12` is not in `123`."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        text = _normalize(answer, ignore_case)
        return float(any(_whole(_normalize(right, ignore_case)).search(text) for right in sample.accepted))

    return score


def includes(*, ignore_case: bool = True) -> Scorer:
    """1 if the answer contains an accepted text, also inside words: `12` is in `123`."""

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.accepted:
            return None
        text = _normalize(answer, ignore_case)
        return float(any(_normalize(right, ignore_case) in text for right in sample.accepted))

    return score


def topic_coverage() -> Scorer:
    """The share of the sample's topics that the answer covers, by any keyword of each, as whole words.

    A keyword that ends in `*` matches every word that starts with it: `refund*` matches "refunded".
    """

    def score(sample: Sample, answer: str) -> float | None:
        if not sample.topics:
            return None
        text = _normalize(answer, True)
        covered = sum(any(_keyword(word).search(text) for word in group) for group in sample.topics)
        return covered / len(sample.topics)

    return score


def length(low: int = 1, high: int = 200) -> Scorer:
    """1 if the answer has between `low` and `high` words, both included."""

    def score(sample: Sample, answer: str) -> float:
        return float(low <= len(words(answer)) <= high)

    return score


def word_count() -> Scorer:
    """The number of words: a measurement, not a score."""

    def score(sample: Sample, answer: str) -> float:
        return float(len(words(answer)))

    return score


def repetition(n: int = 3) -> Scorer:
    """The share of word n-grams that repeat an earlier one in the same answer; 0 is best.

    One minus distinct-n (Li et al. 2016, arXiv:1510.03055). 0 for an answer of fewer than n words.
    """

    def score(sample: Sample, answer: str) -> float:
        text = words(answer)
        grams = [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]
        return 1 - len(set(grams)) / len(grams) if grams else 0.0

    return score


def _normalize(text: str, ignore_case: bool) -> str:
    text = " ".join(text.split())
    return text.casefold() if ignore_case else text


@lru_cache(maxsize=4096)
def _whole(text: str) -> re.Pattern[str]:
    # Not \b, which does not match at the ends of "#12" or "10 %".
    return re.compile(rf"(?<!\w){re.escape(text)}(?!\w)")


@lru_cache(maxsize=4096)
def _keyword(word: str) -> re.Pattern[str]:
    normal = _normalize(word, True)
    if normal.endswith("*"):
        return re.compile(rf"(?<!\w){re.escape(normal[:-1])}")
    return _whole(normal)
