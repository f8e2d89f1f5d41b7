"""The folder of a model's weights: what kind of model it holds, an adapter's rank, and whether it may be registered."""

import json
from pathlib import Path
from typing import Any

from models.errors import Invalid


def guess_kind(path: str, base: str | None) -> str:
    """The kind of model at a folder or hub id: `adapter` by its configuration file, else `merged` if it has a base."""
    if (Path(path) / "adapter_config.json").is_file():
        return "adapter"
    return "merged" if base else "base"


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """An adapter folder's adapter_config.json; empty if it cannot be read."""
    try:
        content = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_lora_rank(path: str | Path) -> int | None:
    """An adapter folder's LoRA rank; None for anything else.

    Raises:
        Invalid: the adapter's configuration cannot be read.
    """
    config = Path(path) / "adapter_config.json"
    try:
        return int(json.loads(config.read_text("utf-8"))["r"]) if config.is_file() else None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Invalid(f"{config} is not an adapter's configuration: {error}.", param="path") from error


def check_weights(path: str) -> None:
    """Checks that a local folder holds safetensors: other formats can run code when loaded. A hub id passes unread.

    Raises:
        Invalid: the path is relative, is not there, or holds no safetensors.
    """
    folder = Path(path)
    if not folder.is_absolute():
        if folder.exists() or path.startswith("."):
            raise Invalid(f"{path!r} is a relative folder: give its absolute path.", param="path")
        return
    if not folder.is_dir():
        raise Invalid(f"There is no folder {path}.", param="path")
    if not any(folder.glob("*.safetensors")):
        raise Invalid(
            f"{path} holds no safetensors. Other formats can run code when loaded: convert them first.",
            param="path",
        )
