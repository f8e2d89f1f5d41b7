"""Which stored completions become training rows, as a person writes it: on the command line or on the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from models.completions.feedback import SourceKind
from models.completions.stored_completions import CompletionFilter
from models.database import Database
from models.errors import Invalid
from models.keys import find_key
from train.data.stored_rows import RowKind, RowOptions


@dataclass(frozen=True)
class StoredChoice:
    """The choice before it is read.

    Attributes:
        model: only answers of this model.
        where: pairs of metadata, each NAME=VALUE.
        since, until: days (UTC), the second one exclusive.
        text: a text in the conversation or the answer.
        key: the name or id of the key that stored the answers.
        min_feedback: minimums of feedback, each NAME=NUMBER.
        kind, feedback_from, corrected, mask, near_duplicates, limit: see `RowOptions`.
    """

    model: str | None = None
    where: Sequence[str] = ()
    since: date | None = None
    until: date | None = None
    text: str | None = None
    key: str | None = None
    min_feedback: Sequence[str] = ()
    kind: RowKind = "conversations"
    feedback_from: SourceKind | None = None
    corrected: bool = False
    mask: bool = False
    near_duplicates: bool = False
    limit: int | None = None


def read_choice(database: Database, choice: StoredChoice) -> tuple[CompletionFilter, RowOptions]:
    """The filter and the options.

    Raises:
        Invalid: a pair, a minimum or a period is wrong. NotFound: there is no such key.
    """
    if choice.since and choice.until and choice.since >= choice.until:
        raise Invalid(f"No time is from {choice.since} on and before {choice.until}: change the days.", param="since")
    key_id = find_key(database, choice.key).id if choice.key else None
    chosen = CompletionFilter(
        choice.model or None, _pairs(choice.where, "where"), _start(choice.since), _start(choice.until), key_id,
        choice.text or None,
    )  # fmt: skip
    least = {name: _number(name, value) for name, value in _pairs(choice.min_feedback, "min-feedback").items()}
    options = RowOptions(
        choice.kind, least, choice.feedback_from, choice.corrected, choice.mask, choice.near_duplicates, choice.limit
    )
    return chosen, options


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in texts:
        # A number contains no equals sign, a name may.
        name, equals, value = text.rpartition("=") if option == "min-feedback" else text.partition("=")
        if not name.strip() or not equals:
            raise Invalid(f"--{option} {text[:80]!r} is not valid: use NAME=VALUE.", param=option)
        if name.strip() in pairs:
            raise Invalid(f"--{option} names {name.strip()[:80]} twice: give it one value.", param=option)
        pairs[name.strip()] = value.strip()
    return pairs


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise Invalid(
            f"--min-feedback {name[:80]}={value[:40]} is not valid: use a number, such as {name[:80]}=0.5.",
            param="min-feedback",
        )
    return number


def _start(day: date | None) -> datetime | None:
    return datetime.combine(day, time.min, UTC) if day is not None else None
