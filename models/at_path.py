"""What stands at a path: a base, something merged, or an adapter with its rank. It reads one small file."""

import json
from pathlib import Path

from models.errors import Invalid


def guess_kind(path: str, base: str | None) -> str:
    """What a folder or hub id is: an adapter has its own configuration file, and what was merged has a base."""
    if (Path(path) / "adapter_config.json").is_file():
        return "adapter"
    return "merged" if base else "base"


def lora_rank(path: str) -> int | None:
    """An adapter folder's rank; None for anything else.

    Raises:
        Invalid: its configuration cannot be read.
    """
    config = Path(path) / "adapter_config.json"
    try:
        return int(json.loads(config.read_text("utf-8"))["r"]) if config.is_file() else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Invalid(f"{config} is no adapter's configuration: {error}.", param="path") from error
