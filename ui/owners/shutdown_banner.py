"""The owners' banner over models that are switched off soon, or are already. The dates are `models.shutdowns`'."""

from collections.abc import Iterable
from datetime import date

from models.shutdowns import upcoming_shutdowns
from models.spec import ModelSpec
from ui.backend.model_options import notice

_SHOWN = 3


def shutdown_banner(specs: Iterable[ModelSpec], today: date | None = None) -> str:
    """HTML that names the models that go within 90 days, the first to go first; empty where there is none."""
    found = upcoming_shutdowns(specs, today)
    if not found:
        return ""
    said = " · ".join(f"`{one.model}` is {one.text}" for one in found[:_SHOWN])
    more = f" · and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return notice(said + more, "bad" if found[0].level == "urgent" else "warn")
