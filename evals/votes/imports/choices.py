"""The winner, from the words, model names, grades and columns that files use."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evals.votes.imports.rows import RowError
from models.errors import Invalid

ONE_HOT = {
    "winner_model_a": "left",
    "winner_model_b": "right",
    "winner_tie": "tie",
    "winner_both_bad": "both_bad",
}
_WORDS = {
    "left": ("left", "a", "model_a", "model_1", "first", "leftvote"),
    "right": ("right", "b", "model_b", "model_2", "second", "rightvote"),
    "tie": ("tie", "draw", "both_good", "tie (both good)", "tie (inconsistent)", "tievote"),
    "both_bad": ("both_bad", "bothbad", "both bad", "tie (bothbad)", "tie (both bad)", "bothbad_vote"),
}
_CHOICES = {word: choice for choice, words in _WORDS.items() for word in words}
# A>>B, A>B, A=B, B>A, also in brackets, as arena judges write it.
_ARROWS = re.compile(r"\[*\s*([ab])\s*(>{1,3}|<{1,3}|=+|≈|~=?)\s*([ab])\s*\]*")
_BETTER = re.compile(
    r"(?:model |answer |response |assistant |option )?(a|b|1|2|left|right)(?: is)?"
    r"(?: much| far| significantly| clearly| slightly| marginally| a bit| a little)? better"
)


@dataclass(frozen=True)
class Scale:
    """Grades from `first`, where model_a is best, to `last`, where model_b is best (1..5, 3..-3)."""

    first: float
    last: float

    def choice(self, grade: float) -> str:
        """left, right, or tie in the middle."""
        if not min(self.first, self.last) <= grade <= max(self.first, self.last):
            raise RowError(f"the grade {grade:g} is outside the scale {self.first:g}..{self.last:g}")
        place = (grade - self.first) / (self.last - self.first) - 0.5
        return "tie" if abs(place) < 1e-9 else "left" if place < 0 else "right"


@dataclass(frozen=True)
class WinnerNames:
    """How a file names the winner, besides the usual words: its words → Parley's choices, and a scale for grades."""

    words: Mapping[str, str] = field(default_factory=dict)
    scale: Scale | None = None


_USUAL = WinnerNames()


def parse_scale(text: str) -> Scale:
    """A scale from `1..5`.

    Raises:
        Invalid: it is not two different numbers.
    """
    first, dots, last = text.partition("..")
    try:
        scale = Scale(float(first), float(last))
    except ValueError:
        scale = None
    if not dots or scale is None or scale.first == scale.last:
        raise Invalid(f"The scale {text!r} is not two numbers such as 1..5 (1: model_a is best).", param="scale")
    return scale


def parse_words(pairs: Mapping[str, str]) -> dict[str, str]:
    """A file's words in lower case → our choices, from `{"same": "tie"}`.

    Raises:
        Invalid: a word is mapped to something that is not a choice.
    """
    words = {}
    for word, name in pairs.items():
        if name.lower() not in _CHOICES:
            raise Invalid(f"--winner maps {word!r} to {name!r}: use model_a, model_b, tie or both_bad.", param="winner")
        words[word.strip().lower()] = _CHOICES[name.lower()]
    return words


def choice_of(winner: Any, left: str, right: str, names: WinnerNames = _USUAL) -> str:
    """left, right, tie or both_bad, from the words that files use, a grade, or the winning model's name.

    Raises:
        RowError: there is no winner, or it cannot be read; the message says what to do.
    """
    if isinstance(winner, Mapping) and "selected" in winner:  # Label Studio's JSON_MIN
        winner = winner["selected"]
    if isinstance(winner, list | Mapping):
        raise RowError("the winner is a list or an object: write it as left, right, tie or a model's name")
    name = "" if winner is None else str(winner).strip()
    lower = name.lower()
    if lower in names.words:
        return names.words[lower]
    if name and name in (left, right):
        return "left" if name == left else "right"
    if names.scale is not None and (grade := _number(name)) is not None:
        return names.scale.choice(grade)
    if lower in _CHOICES:
        return _CHOICES[lower]
    if name and (lower == left.lower()) != (lower == right.lower()):
        return "left" if lower == left.lower() else "right"
    if not name:
        raise RowError("it has no winner")
    if (graded := _graded(lower)) is not None:
        return graded
    shown = name[:40]
    if _number(name) is not None:
        raise RowError(f"the winner {shown!r} is a number: name its scale, such as --scale 1..5 (1: model_a is best)")
    raise RowError(
        f"the winner {shown!r} is not a side, a model of this row, or a tie: map it with --winner '{shown}=tie'"
    )


def one_hot_choice(row: Mapping[str, Any]) -> str | None:
    """The choice from columns winner_model_a, winner_model_b, winner_tie, of which one is 1; None without them."""
    if "winner_model_a" not in row or "winner_model_b" not in row:
        return None
    marked = [choice for column, choice in ONE_HOT.items() if _is_marked(row.get(column))]
    if len(marked) != 1:
        raise RowError(f"one of its columns winner_model_a, winner_model_b, winner_tie must be 1, not {len(marked)}")
    return marked[0]


def _graded(text: str) -> str | None:
    """The choice in a graded wording: `[[A>>B]]`, `B > A`, `A is slightly better`."""
    if bracketed := re.fullmatch(r"\[\[([abc])\]\]", text):
        return {"a": "left", "b": "right", "c": "tie"}[bracketed[1]]
    if arrows := _ARROWS.fullmatch(text):
        first, sign, second = arrows.groups()
        if first == second:
            return None
        if sign[0] not in "<>":
            return "tie"
        return "left" if (first == "a") == (sign[0] == ">") else "right"
    if better := _BETTER.fullmatch(text):
        return "left" if better[1] in ("a", "1", "left") else "right"
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_marked(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")
