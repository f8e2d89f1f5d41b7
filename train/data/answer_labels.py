"""The values that say whether an answer is good or bad, in the words of KTO's data sets and of feedback forms."""

from typing import Any

_GOOD = ("true", "1", "good", "desirable", "chosen", "thumbs_up", "up", "like")
_BAD = ("false", "0", "-1", "bad", "undesirable", "rejected", "thumbs_down", "down", "dislike")


def read_label(value: Any) -> bool | None:
    """Whether a value says that an answer is good; None if it says neither."""
    word = str(value).strip().lower() if isinstance(value, bool | int | float | str) else ""
    word = word.removesuffix(".0")  # a table makes floats of numbers where some are missing
    return True if word in _GOOD else False if word in _BAD else None
