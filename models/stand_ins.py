"""Local models that stand in for other providers' names, by the setting `fine_tuning_models`. No state."""

import re
from collections.abc import Mapping

_DATE = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{4})$")


def find_stand_in(names: Mapping[str, str], name: str) -> str | None:
    """The local model that a name stands for; None if it stands for none.

    A family's name covers its dated versions and the other way round, as at OpenAI: `gpt-4o-mini` and
    `gpt-4o-mini-2024-07-18`. An entry with the very name comes first; it alone counts if entries of a family differ.
    """
    if name in names:
        return names[name]
    family = _DATE.sub("", name)
    targets = {target for known, target in names.items() if _DATE.sub("", known) == family}
    return targets.pop() if len(targets) == 1 else None
