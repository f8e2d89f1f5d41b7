"""One imported vote, and the reasons why a row is not a vote."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

UNKNOWN_VOTER = "unknown"
_LIMIT = 255  # characters of a name, as the tables have them
_EXCEL_DAYS = (36_526, 73_050)  # 2000 to 2099 in days since 1899; as seconds they are the first day of 1970
_MILLISECONDS, _MICROSECONDS, _NANOSECONDS = 1e11, 1e14, 1e17  # from here on a number of seconds is in that unit


class RowError(Exception):
    """What is wrong with a row."""


class NotAVote(Exception):
    """A row of another kind, which is skipped; the message says what it is."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read: its line in the file (or place in a JSON list), from 1, and the reason."""

    line: int
    reason: str


@dataclass(frozen=True)
class Texts:
    """The texts of a vote: the messages up to the question, and both answers."""

    messages: tuple[dict[str, str], ...]
    left: str
    right: str


@dataclass(frozen=True)
class ImportedVote:
    """A vote as the other tool showed it. `choice` is left, right, tie or both_bad.

    `messages` ends with the user's turn; it is empty where only the prompt's name is known, `prompt`. Unknown answers
    are "". `id` is the other tool's id of the vote, None without one. `again`: the pair was shown to the voter again on
    purpose. `own_prompt`: the file has no prompts, and each vote is a prompt of its own. `former`: the texts as release
    0a467a6 read them, where they differ, so that its imports are recognised.
    """

    line: int
    left: str
    right: str
    choice: str
    voter: str
    prompt: str
    messages: tuple[dict[str, str], ...] = ()
    left_answer: str = ""
    right_answer: str = ""
    category: str | None = None
    id: str | None = None
    when: datetime | None = None
    again: bool = False
    own_prompt: bool = False
    former: Texts | None = None

    def __post_init__(self) -> None:
        require_names(self.left, self.right)
        if self.left == self.right:
            raise RowError(f"both sides are the model {self.left}")
        for name, value in (("a model's name", self.left), ("a model's name", self.right), ("the voter", self.voter)):
            if not value or len(value) > _LIMIT:
                raise RowError(f"{name} is empty" if not value else f"{name} has over {_LIMIT} characters")
        if self.category is not None and len(self.category) > _LIMIT:
            raise RowError(f"the category has over {_LIMIT} characters")
        texts = (
            self.left, self.right, self.voter, self.category or "", self.left_answer, self.right_answer, self.prompt,
            *(m["content"] for m in self.messages),
        )  # fmt: skip
        joined = "".join(texts)
        if "\0" in joined:
            raise RowError("it contains a NUL character: remove it")
        try:
            joined.encode()
        except UnicodeEncodeError as error:
            raise RowError("it contains a lone surrogate (\\ud800 to \\udfff)") from error

    @property
    def content(self) -> list[dict[str, str]]:
        """The prompt as it is stored: its messages, or its name in brackets."""
        return list(self.messages) or [{"role": "user", "content": f"[{self.prompt}]"}]

    @property
    def sorted_choice(self) -> str:
        """The choice with the models in sorted order, left to right."""
        return mirrored(self.choice) if self.left > self.right else self.choice


def require_names(left: str, right: str) -> None:
    """Raises RowError unless both models have a name."""
    for side, name in (("left", left), ("right", right)):
        if not name:
            raise RowError(f"the {side} model has no name: fill it in, or name the column with --columns")


def mirrored(choice: str) -> str:
    """The same choice with the sides swapped."""
    return {"left": "right", "right": "left"}.get(choice, choice)


def parse_time(given: Any) -> datetime | None:
    """A time from seconds, milli-, micro- or nanoseconds since 1970, or from ISO 8601 (UTC if it has no zone)."""
    if given is None:
        return None
    if isinstance(given, str) and given[4:5] == "-" and (when := _iso_time(given)) is not None:
        return when
    try:
        seconds = float(given)
    except (TypeError, ValueError) as error:
        if (when := _iso_time(str(given))) is None:
            raise RowError(f"the time {str(given)[:40]!r} cannot be read: write it as 2026-01-31T12:00") from error
        return when
    if _EXCEL_DAYS[0] <= seconds <= _EXCEL_DAYS[1]:
        raise RowError(f"the time {str(given)[:40]!r} seems to be an Excel day number: write it as 2026-01-31")
    try:
        if not math.isfinite(seconds):
            raise OverflowError
        return datetime.fromtimestamp(seconds / _unit(abs(seconds)), UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise RowError(f"the time {str(given)[:40]!r} cannot be read: write it as 2026-01-31T12:00") from error


def _iso_time(text: str) -> datetime | None:
    try:
        when = datetime.fromisoformat(text.strip().removesuffix(" UTC"))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _unit(size: float) -> float:
    if size > _NANOSECONDS:
        return 1e9
    if size > _MICROSECONDS:
        return 1e6
    return 1e3 if size > _MILLISECONDS else 1.0
