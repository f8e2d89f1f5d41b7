"""Names and ids of fine-tuning: `ft:<base>:<organization>:<suffix>:<id>`, jobs, events and checkpoints.

The base part is the name that the client requested, not the local base that it may be mapped to, so that a program
finds its own `gpt-4o-mini` in the result.
"""

import re
import secrets
import string

from models.database import new_ulid
from models.errors import Invalid
from models.spec import NAME_RULE, is_valid_name

_LETTERS = string.ascii_letters + string.digits


def job_id() -> str:
    """A new job id."""
    return f"ftjob-{new_ulid()}"


def event_id() -> str:
    """A new event id."""
    return f"ftevent-{new_ulid()}"


def checkpoint_id() -> str:
    """A new checkpoint id."""
    return f"ftckpt_{new_ulid()}"


def clean_suffix(suffix: str | None) -> str:
    """A suffix as part of a name: letters, digits, `-`, `_` and single dots; other characters become a dash.

    Raises:
        Invalid: it has no letter or digit.
    """
    if suffix is None:
        return ""
    clean = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", suffix).strip("-.")
    if not clean:
        raise Invalid(f"suffix {suffix!r} has no letter or digit: give it one.", param="suffix")
    return clean


def model_name(requested: str, organization: str, suffix: str) -> str:
    """A new name for a result. A model trained from an `ft:…` keeps the base in its name.

    Raises:
        Invalid: the name would not be valid (over 255 characters).
    """
    base = requested.split(":")[1] if requested.startswith("ft:") and requested.count(":") >= 2 else requested
    number = "".join(secrets.choice(_LETTERS) for _ in range(8))
    name = f"ft:{base}:{organization}:{suffix}:{number}"
    if not is_valid_name(checkpoint_name(name, 10**12)):
        raise Invalid(f"{name!r} is not a valid model name: {NAME_RULE}.", param="model")
    return name


def checkpoint_name(model: str, step: int) -> str:
    """The name of a checkpoint of a job that trains `model`."""
    return f"{model}:ckpt-step-{step}"
