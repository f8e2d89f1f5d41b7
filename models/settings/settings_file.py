"""The file parley.toml of a home."""

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.errors import Invalid


def read_settings_file(home: Path, known: Collection[str]) -> dict[str, Any]:
    """The values of `parley.toml`; none without the file.

    Raises:
        Invalid: it cannot be read, or sets a name that is not `known`.
    """
    path = home / "parley.toml"
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path} cannot be read as settings: {error}. Correct or remove it.") from error
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise Invalid(
            f"{path} has unknown settings: {', '.join(unknown)}. Remove or correct them: see docs/settings.md."
        )
    return values
