"""Finds the local model that another provider's name is mapped to by the setting `fine_tuning_models`."""

import re
from collections.abc import Mapping

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")


def find_mapped_model(names: Mapping[str, str], name: str) -> str | None:
    """The local model that `name` is mapped to; None if there is none.

    An entry with exactly this name takes precedence. Otherwise names that differ only in their date are the same, such
    as `gpt-4o-mini` and `gpt-4o-mini-2024-07-18`, unless several such entries map to different models.

    Args:
        names: the setting: provider's name → local model.
    """
    if name in names:
        return names[name]
    family = _DATE.sub("", name)
    targets = {target for other, target in names.items() if _DATE.sub("", other) == family}
    return targets.pop() if len(targets) == 1 else None
