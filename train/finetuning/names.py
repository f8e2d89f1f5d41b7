"""What fine-tuning's things are called: `ft:<base>:<organization>:<suffix>:<id>` and the ids of jobs and events.

The base part is the name that the client asked for, not the local base that it may be mapped to: a program that
looks for its own `gpt-4o-mini` in the result finds it.
"""

import re
import secrets
import string

from models.database import new_ulid
from models.errors import Invalid
from models.spec import NAME_RULE, is_valid_name

_LETTERS = string.ascii_letters + string.digits


def job_id() -> str:
    """A fresh job's id."""
    return f"ftjob-{new_ulid()}"


def event_id() -> str:
    """A fresh event's id."""
    return f"ftevent-{new_ulid()}"


def checkpoint_id() -> str:
    """A fresh checkpoint's id."""
    return f"ftckpt_{new_ulid()}"


def clean_suffix(suffix: str | None) -> str:
    """A suffix as it stands in a name: letters, digits, `-`, `_` and single dots; a dash for whatever else.

    Raises:
        Invalid: nothing is left of it.
    """
    if suffix is None:
        return ""
    clean = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", suffix).strip("-.")
    if not clean:
        raise Invalid(f"suffix {suffix!r} has no letter or digit: give it one.", param="suffix")
    return clean


def model_name(asked: str, organization: str, suffix: str) -> str:
    """A fresh name for a result. What is trained on from an `ft:…` keeps the base that that one names.

    Raises:
        Invalid: it would be no model's name (over 255 characters).
    """
    base = asked.split(":")[1] if asked.startswith("ft:") and asked.count(":") >= 2 else asked
    number = "".join(secrets.choice(_LETTERS) for _ in range(8))
    name = f"ft:{base}:{organization}:{suffix}:{number}"
    if not is_valid_name(checkpoint_name(name, 10**12)):
        raise Invalid(f"{name!r} can be no model's name: {NAME_RULE}.", param="model")
    return name


def checkpoint_name(model: str, step: int) -> str:
    """What a checkpoint of a job that makes `model` is called."""
    return f"{model}:ckpt-step-{step}"
