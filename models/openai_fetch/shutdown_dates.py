"""When OpenAI shuts models down. A copy of `models/registry/shutdowns.toml`, because `tomllib` needs Python 3.11."""

from __future__ import annotations

from datetime import date

SHUTDOWNS = dict.fromkeys(("gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"), date(2027, 1, 14))
NO_NEW_JOBS = date(2027, 1, 6)


def find_shutdown(base: str, announced: object = None) -> date | None:
    """The day a model is shut down: as OpenAI announced it in the model's object, else by its family."""
    if isinstance(announced, str):
        try:
            return date.fromisoformat(announced[:10])
        except ValueError:
            pass
    for family, day in SHUTDOWNS.items():
        rest = base[len(family) :]
        # gpt-4o-mini-2024-07-18 belongs to the family gpt-4o-mini; gpt-4o-audio-preview to none of these.
        if base.startswith(family) and (not rest or (rest[0] == "-" and rest[1:5].isdigit())):
            return day
    return None
