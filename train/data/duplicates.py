"""Which texts are the same, or nearly: exact copies by their words, near ones by MinHash and then by true overlap.

Each text is a set of shingles (three words in a row). MinHash with banding (datasketch) finds pairs that are likely
alike, and the Jaccard overlap of their shingles decides. A chain of pairs is one group. Broder, «On the resemblance and
containment of documents», 1997; Leskovec, Rajaraman, Ullman, «Mining of Massive Datasets», chapter 3.
It knows texts only, not what they are part of.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

ALIKE = 0.85  # of the shingles of both, from which two texts count as nearly the same
_SHINGLE = 3
_HASHES, _BANDS, _ROWS = 128, 16, 8  # a pair at 0.85 is found with 99.4 %, one at 0.5 with 6 %
# A word, or one letter of a script that writes without blanks.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0e7f]|[^\W_]+")


@dataclass(frozen=True)
class Twin:
    """The text at `place` is like the earlier one at `first`; `overlap` is 1.0 where their words are the same."""

    place: int
    first: int
    overlap: float

    @property
    def exact(self) -> bool:
        """Whether it is a copy, capitals and blanks aside."""
        return self.overlap == 1.0


@dataclass(frozen=True)
class Likeness:
    """What is like what: `twins` in the order of their places, and the group's number for each text."""

    twins: tuple[Twin, ...]
    groups: tuple[int, ...]


def likeness(texts: Sequence[str], alike: float = ALIKE) -> Likeness:
    """Finds copies and near copies among texts, in about linear time.

    Args:
        texts: what is compared; empty ones are like nothing.
        alike: the Jaccard overlap from which two are nearly the same.

    Returns:
        For each text that has an earlier twin, the first such; and a group for each text, the place of its first
        member: all that are connected by twins have one.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(num_perm=_HASHES, params=(_BANDS, _ROWS))
    empty = MinHash(num_perm=_HASHES, scheme="affine32", hashfunc=int)
    known: dict[str, int] = {}
    shingles: dict[int, Any] = {}
    groups = Groups(len(texts))
    twins: list[Twin] = []
    for place, text in enumerate(texts):
        words = _WORD.findall(text.casefold())
        key = " ".join(words) or text.strip()
        first = known.setdefault(key, place)
        if first != place and key:
            twins.append(Twin(place, first, 1.0))
            groups.join(first, place)
        if first != place or not words:
            continue
        shingles[place] = _shingles(words)
        sketch = empty.copy()
        sketch.update_batch(shingles[place].tolist())
        if (near := _nearest(place, index.query(sketch), shingles, groups, alike)) is not None:
            twins.append(near)
        index.insert(place, sketch, check_duplication=False)
    return Likeness(tuple(twins), tuple(groups.root(place) for place in range(len(texts))))


def _nearest(place: int, candidates: Sequence[Any], shingles: dict[int, Any], groups: "Groups", alike: float) -> Any:
    """The earliest candidate that is truly alike; the groups of all that are become one."""
    found: Twin | None = None
    for other in sorted(candidates):
        if groups.root(other) == groups.root(place):
            continue  # of one group already: one pair is enough
        overlap = _jaccard(shingles[place], shingles[other])
        if overlap >= alike:
            # Words in another order have other shingles; all the same they are no exact copy.
            found = found or Twin(place, other, min(overlap, 0.999))
            groups.join(other, place)
    return found


def _shingles(words: list[str]) -> "np.ndarray":
    """The set of shingles as sorted 32-bit hashes that are the same in every process."""
    import numpy as np

    codes = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in words], np.uint32)
    if len(codes) < _SHINGLE:
        return np.unique(codes)
    mixed = codes[:-2] * np.uint32(0x9E3779B1) + codes[1:-1] * np.uint32(0x85EBCA77) + codes[2:]
    return np.unique(mixed)


def _jaccard(one: "np.ndarray", other: "np.ndarray") -> float:
    import numpy as np

    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


class Groups:
    """Union and find over the places 0 to size − 1; a group's root is its first place."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def root(self, place: int) -> int:
        """The first place of the group that `place` is in."""
        while self._above[place] != place:
            self._above[place] = self._above[self._above[place]]
            place = self._above[place]
        return place

    def join(self, one: int, other: int) -> None:
        """Makes the groups of both one."""
        first, second = sorted((self.root(one), self.root(other)))
        self._above[second] = first
