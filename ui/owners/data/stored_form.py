"""The form for stored answers as the browser sends it, read into a choice of training rows."""

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, cast

from models.completions.feedback import SourceKind
from models.errors import Invalid
from train.data.stored_choice import StoredChoice
from train.data.stored_rows import RowKind

KINDS = ("conversations", "pairs", "prompts")
SOURCES = ("human", "model", "code")
_LONGEST = 1000  # characters of a field


def read_form(sent: Mapping[str, Any]) -> StoredChoice:
    """The choice. An empty or missing field chooses everything.

    Raises:
        Invalid: a field is wrong; the message names it as the form does.
    """
    kind = _text(sent, "kind") or "conversations"
    source = _text(sent, "feedback_from") or None
    if kind not in KINDS or source not in (None, *SOURCES):
        raise Invalid("This form was not sent by this page: reload it.", param="kind")
    name, least = _text(sent, "feedback_name"), _text(sent, "feedback_least")
    if least and not name:
        raise Invalid("Give the name of the feedback with a minimum, such as rating.", param="feedback_name")
    if name and not _is_number(least or "1"):
        raise Invalid(
            f"The minimum of {name[:80]} is {least[:40]!r}: use a number, such as 0.5.", param="feedback_least"
        )
    pairs = [pair.strip() for pair in _text(sent, "where").split(",") if pair.strip()]
    if wrong := next((pair for pair in pairs if not pair.partition("=")[0].strip() or "=" not in pair), None):
        raise Invalid(f"Metadata {wrong[:80]!r} is not valid: use NAME=VALUE, separated by commas.", param="where")
    return StoredChoice(
        model=_text(sent, "model"),
        where=pairs,
        since=_day(sent, "since", "From"),
        until=_day(sent, "until", "Before"),
        text=_text(sent, "text"),
        key=_text(sent, "key"),
        min_feedback=[f"{name}={least or 1}"] if name else [],
        kind=cast(RowKind, kind),
        feedback_from=cast("SourceKind | None", source),
        corrected=sent.get("corrected") is True,
        mask=sent.get("mask") is True,
        near_duplicates=sent.get("near_duplicates") is True,
    )


def _text(sent: Mapping[str, Any], name: str) -> str:
    value = sent.get(name, "")
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise Invalid(f"A field of the form has at most {_LONGEST:,} characters.", param=name)
    return value.strip()


def _day(sent: Mapping[str, Any], name: str, label: str) -> date | None:
    text = _text(sent, name)
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise Invalid(f"{label} is {text[:40]!r}: use a day such as 2026-11-30.", param=name) from None


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
