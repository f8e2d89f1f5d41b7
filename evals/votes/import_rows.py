"""One imported vote, and how a row of a plain table (CSV, JSONL) becomes one."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

UNKNOWN_VOTER = "unknown"
# Our name for a column → the names in files; the first that is present is used.
COLUMNS: dict[str, tuple[str, ...]] = {
    "model_a": ("model_a", "left", "model_left", "left_model", "model_1"),
    "model_b": ("model_b", "right", "model_right", "right_model", "model_2"),
    "winner": ("winner", "choice", "vote", "label"),
    "messages": ("messages",),
    "prompt": ("prompt", "question", "instruction", "prompt_id", "question_id"),
    "answer_a": ("answer_a", "response_a", "left_answer", "answer_1"),
    "answer_b": ("answer_b", "response_b", "right_answer", "answer_2"),
    "voter": ("voter", "judge", "user", "user_id", "annotator", "rater"),
    "again": ("again",),
    "category": ("category",),
    "id": ("id", "vote_id", "battle_id"),
    "created": ("created", "created_at", "timestamp", "tstamp"),
}
_WINNERS = {
    "left": ("left", "a", "model_a", "model_1", "first", "leftvote"),
    "right": ("right", "b", "model_b", "model_2", "second", "rightvote"),
    "tie": ("tie", "draw", "both_good", "tie (both good)", "tie (inconsistent)", "tievote"),
    "both_bad": ("both_bad", "bothbad", "both bad", "tie (bothbad)", "tie (both bad)", "bothbad_vote"),
}
_LIMIT = 255  # characters of a name, as the tables have them


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
class ImportedVote:
    """A vote as the other tool showed it. `choice` is left, right, tie or both_bad.

    `messages` ends with the user's turn; it is empty if only the prompt's name is known, `prompt`. Unknown answers
    are "". `id` is the other tool's id of the vote, None without one. `again`: the pair was shown to the voter again on
    purpose.
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

    def __post_init__(self) -> None:
        if self.left == self.right:
            raise RowError(f"both sides are the model {self.left}")
        for name, value in (("a model's name", self.left), ("a model's name", self.right), ("the voter", self.voter)):
            if not value or len(value) > _LIMIT:
                raise RowError(f"{name} is empty" if not value else f"{name} has over {_LIMIT} characters")
        if self.category is not None and len(self.category) > _LIMIT:
            raise RowError(f"the category has over {_LIMIT} characters")
        try:
            "".join((self.left_answer, self.right_answer, self.prompt, *(m["content"] for m in self.messages))).encode()
        except UnicodeEncodeError as error:
            raise RowError("it contains a lone surrogate (\\ud800 to \\udfff)") from error

    @property
    def sorted_choice(self) -> str:
        """The choice with the models in sorted order, left to right."""
        if self.left < self.right:
            return self.choice
        return {"left": "right", "right": "left"}.get(self.choice, self.choice)


def from_row(row: Mapping[str, Any], line: int, columns: Mapping[str, str], own_prompt: str | None) -> ImportedVote:
    """A vote from a row of columns.

    Args:
        columns: our names for columns → the file's, if they differ from COLUMNS.
        own_prompt: the prompt's name if the row has none; with None that is an error.

    Raises:
        RowError: the row is not a vote.
    """

    def cell(name: str) -> Any:
        for column in (columns[name],) if name in columns else COLUMNS[name]:
            if (value := row.get(column)) not in (None, ""):
                return value
        return None

    left, right = (str(cell(side) or "").strip() for side in ("model_a", "model_b"))
    messages = parse_messages(cell("messages"))
    prompt = str(cell("prompt") if cell("prompt") is not None else "").strip()
    if not messages and not prompt:
        if own_prompt is None:
            raise RowError("it has no prompt")
        prompt = own_prompt
    asked = ({"role": "user", "content": prompt},) if _is_text(row, columns) else ()
    return ImportedVote(
        line=line,
        left=left,
        right=right,
        choice=choice_of(cell("winner"), left, right),
        voter=str(cell("voter") or UNKNOWN_VOTER).strip(),
        prompt=prompt,
        messages=messages or asked,
        left_answer=str(cell("answer_a") or ""),
        right_answer=str(cell("answer_b") or ""),
        category=None if cell("category") is None else str(cell("category")),
        id=None if cell("id") is None else str(cell("id")),
        when=parse_time(cell("created")),
        again=str(cell("again") or "").strip().lower() in ("true", "1", "yes"),
    )


def choice_of(winner: Any, left: str, right: str) -> str:
    """left, right, tie or both_bad, from the names that files use, or from the winning model's name."""
    name = "" if winner is None else str(winner).strip()
    if name in (left, right):
        return "left" if name == left else "right"
    for choice, names in _WINNERS.items():
        if name.lower() in names:
            return choice
    if not name:
        raise RowError("it has no winner")
    raise RowError(f"the winner {name[:40]!r} is not a side, a model of this row, or a tie")


def parse_messages(value: Any) -> tuple[dict[str, str], ...]:
    """A conversation from a list of messages or its JSON; () if there is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError("its messages are not JSON") from error
    if not value:
        return ()
    try:
        messages = tuple({"role": str(message["role"]), "content": message["content"]} for message in value)
    except (TypeError, KeyError) as error:
        raise RowError("a message needs a role and a text") from error
    if not all(isinstance(message["content"], str) for message in messages) or messages[-1]["role"] != "user":
        raise RowError("its messages must be texts, the user's last")
    return messages


def parse_time(value: Any) -> datetime | None:
    """A time from seconds or milliseconds since 1970, or from ISO 8601 (UTC if it has no zone)."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        try:
            when = datetime.fromisoformat(str(value))
        except ValueError as error:
            raise RowError(f"the time {str(value)[:40]!r} cannot be read") from error
        return when if when.tzinfo else when.replace(tzinfo=UTC)
    try:
        if not math.isfinite(seconds):
            raise OverflowError
        return datetime.fromtimestamp(seconds / 1000 if abs(seconds) > 1e11 else seconds, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise RowError(f"the time {str(value)[:40]!r} cannot be read") from error


def _is_text(row: Mapping[str, Any], columns: Mapping[str, str]) -> bool:
    """Whether the prompt's column has the prompt's text, and not its id."""
    names = (columns["prompt"],) if "prompt" in columns else COLUMNS["prompt"]
    column = next((name for name in names if row.get(name) not in (None, "")), "")
    return bool(column) and not column.endswith("id")
