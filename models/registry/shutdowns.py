"""When hosted models are shut down: the provider's announced date, or the table in shutdowns.toml.

Nothing here contacts a provider.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from models.database import utcnow
from models.quantities import count_noun
from models.spec import ModelSpec

NEAR_DAYS, URGENT_DAYS = 90, 14  # warnings start at the first, and are red from the second


@dataclass(frozen=True)
class Shutdown:
    """A model's shutdown. `days_left` is negative after the day."""

    model: str
    day: date
    days_left: int

    @property
    def level(self) -> Literal["far", "near", "urgent"]:
        """The urgency: `urgent` within 14 days and after the day, `near` within 90 days, else `far`."""
        if self.days_left <= URGENT_DAYS:
            return "urgent"
        return "near" if self.days_left <= NEAR_DAYS else "far"

    @property
    def text(self) -> str:
        """The shutdown as text without the model's name: "off in 53 days (2027-01-14)"."""
        if self.days_left < 0:
            return f"off since {self.day} ({count_noun(-self.days_left, 'day')} ago)"
        if self.days_left == 0:
            return f"off today ({self.day})"
        return f"off in {count_noun(self.days_left, 'day')} ({self.day})"


def find_shutdown_date(base: str, announced: str | None = None) -> date | None:
    """The day a model is shut down: as announced, otherwise by its family; None if unknown.

    Args:
        base: a model's or fine-tune's (`ft:<base>:…`) name at its provider.
        announced: the `shutdown_date` of the provider's model object, an ISO date or time.
    """
    if announced:
        try:
            return date.fromisoformat(announced[:10])
        except ValueError:
            pass
    base = base.split(":")[1] if base.startswith("ft:") else base
    for retirement in _table()["retirement"]:
        for family in retirement["families"]:
            # gpt-4o-mini-2024-07-18 belongs to the family gpt-4o-mini; gpt-4o-audio-preview to none of these.
            rest = base.removeprefix(family)
            if rest != base and (not rest or (rest[0] == "-" and rest[1:5].isdigit())):
                return retirement["day"]
    return None


def print_shutdowns(specs: Iterable[ModelSpec], console: Any, today: date | None = None) -> None:
    """Prints a warning for each model that is shut down within 90 days (yellow), within 14 days or already (red)."""
    from rich.markup import escape

    known = {spec.id: spec for spec in specs}
    replacements = {spec.description: spec.id for spec in known.values()}
    for shutdown in upcoming_shutdowns(known.values(), today):
        upstream = known[shutdown.model].upstream
        tuned = upstream is not None and upstream.model.startswith("ft:")
        hint = f": rescue it with `parley rescue {upstream.model}`" if tuned and upstream else ""
        if upstream and (rescued := replacements.get(rescue_description(upstream.model))):
            hint = f": {rescued} can replace it"
        style = {"near": "yellow", "urgent": "red"}[shutdown.level]
        console.print(f"[{style}]{escape(shutdown.model)} is {shutdown.text}[/]{escape(hint)}", soft_wrap=True)


def rescue_description(model: str) -> str:
    """The description of a model that a rescue trained to replace `model`; warnings recognise it by this text."""
    return f"Rescued from {model}"


def fine_tuning_cutoff(provider: str) -> date | None:
    """The day from which a provider accepts no new fine-tuning jobs; None if unknown."""
    return next((row["day"] for row in _table()["no_new_jobs"] if row["provider"] == provider), None)


def spec_shutdown(spec: ModelSpec, today: date | None = None) -> Shutdown | None:
    """A model's shutdown; None without a date."""
    if spec.shutdown_date is None:
        return None
    return countdown(spec.id, spec.shutdown_date, today)


def countdown(model: str, day: date, today: date | None = None) -> Shutdown:
    """A model's shutdown, counted from `today` (UTC)."""
    return Shutdown(model, day, (day - (today or utcnow().date())).days)


def upcoming_shutdowns(specs: Iterable[ModelSpec], today: date | None = None) -> list[Shutdown]:
    """The shutdowns within 90 days or in the past, earliest first."""
    known = (spec_shutdown(spec, today) for spec in specs)
    near = [shutdown for shutdown in known if shutdown and shutdown.level != "far"]
    return sorted(near, key=lambda shutdown: (shutdown.day, shutdown.model))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
