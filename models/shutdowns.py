"""When hosted models are switched off: by their provider's word, else by a dated table; and who must be warned of it.

The table is models/shutdowns.toml. Dates only: nothing here asks a provider.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, Literal

from models.database import utcnow
from models.spec import ModelSpec

NEAR_DAYS, URGENT_DAYS = 90, 14  # from here on a model is warned of, and in red


@dataclass(frozen=True)
class Shutdown:
    """A model that goes soon, or is gone. `days_left` is negative once the day has passed."""

    model: str
    day: date
    days_left: int

    @property
    def level(self) -> Literal["far", "near", "urgent"]:
        """How loud to say it: `urgent` within 14 days and after the day, `near` within 90, else `far`."""
        if self.days_left <= URGENT_DAYS:
            return "urgent"
        return "near" if self.days_left <= NEAR_DAYS else "far"

    @property
    def text(self) -> str:
        """In words, without the model's name: «off in 53 days (2027-01-14)»."""
        if self.days_left < 0:
            return f"off since {self.day} ({_days(-self.days_left)} ago)"
        if self.days_left == 0:
            return f"off today ({self.day})"
        return f"off in {_days(self.days_left)} ({self.day})"


def find_shutdown_date(base: str, announced: str | None = None) -> date | None:
    """The day a model is switched off: as the API announces it, else by its family; None where neither knows.

    Args:
        base: a model's name at its provider, or a fine-tune's (`ft:<base>:…`).
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
            # gpt-4o-mini-2024-07-18 is of the family gpt-4o-mini; gpt-4o-audio-preview is of none of these.
            rest = base.removeprefix(family)
            if rest != base and (not rest or (rest[0] == "-" and rest[1:5].isdigit())):
                return retirement["day"]
    return None


def print_shutdowns(specs: Iterable[ModelSpec], console: Any, today: date | None = None) -> None:
    """Prints a line for each model that goes soon or is gone: yellow within 90 days, red within 14 and after."""
    from rich.markup import escape

    known = {spec.id: spec for spec in specs}
    home = {spec.description: spec.id for spec in known.values()}
    for one in upcoming_shutdowns(known.values(), today):
        upstream = known[one.model].upstream
        tuned = upstream is not None and upstream.model.startswith("ft:")
        hint = f": bring it home with `parley rescue {upstream.model}`" if tuned and upstream else ""
        if upstream and (rescued := home.get(rescue_description(upstream.model))):
            hint = f": {rescued} is here to take its place"
        style = {"near": "yellow", "urgent": "red"}[one.level]
        console.print(f"[{style}]{escape(one.model)} is {one.text}[/]{escape(hint)}", soft_wrap=True)


def rescue_description(model: str) -> str:
    """The description that a rescue gives to the model that takes a fine-tune's place; by it the two are matched."""
    return f"Rescued from {model}"


def fine_tuning_cutoff(provider: str) -> date | None:
    """The day from which a provider takes no new fine-tuning jobs; None where none is known."""
    return next((row["day"] for row in _table()["no_new_jobs"] if row["provider"] == provider), None)


def shutdown(spec: ModelSpec, today: date | None = None) -> Shutdown | None:
    """What is known of a model's end; None where it has no date."""
    if spec.shutdown_date is None:
        return None
    return countdown(spec.id, spec.shutdown_date, today)


def countdown(model: str, day: date, today: date | None = None) -> Shutdown:
    """How long a model still has, from today on (UTC)."""
    return Shutdown(model, day, (day - (today or utcnow().date())).days)


def upcoming_shutdowns(specs: Iterable[ModelSpec], today: date | None = None) -> list[Shutdown]:
    """The models that must be warned of, the first to go first: within 90 days, or past."""
    found = [one for spec in specs if (one := shutdown(spec, today)) and one.level != "far"]
    return sorted(found, key=lambda one: (one.day, one.model))


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def _days(number: int) -> str:
    return f"{number} day{'' if number == 1 else 's'}"
