"""The owners' banner about models that shut down soon or have already. `models.registry.shutdowns` knows the dates."""

from collections.abc import Iterable
from datetime import date

from models.registry.shutdowns import upcoming_shutdowns
from models.spec import ModelSpec
from ui.look.markup import notice

_SHOWN = 3


def shutdown_banner(specs: Iterable[ModelSpec], today: date | None = None) -> str:
    """A notice about the models that shut down within 90 days, the earliest first; empty if there are none."""
    coming = upcoming_shutdowns(specs, today)
    if not coming:
        return ""
    text = " · ".join(f"`{shutdown.model}` is {shutdown.text}" for shutdown in coming[:_SHOWN])
    more = f" · and {len(coming) - _SHOWN} more" if len(coming) > _SHOWN else ""
    return notice(text + more, "bad" if coming[0].level == "urgent" else "warn")
