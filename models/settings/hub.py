"""What the environment says about the Hugging Face hub, by huggingface_hub's rules but without loading it."""

import os
from pathlib import Path


def hub_cache() -> Path:
    """The hub's cache folder."""
    if (named := os.environ.get("HF_HUB_CACHE")) is not None:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def hub_is_offline() -> bool:
    """Whether the environment forbids requests to the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
