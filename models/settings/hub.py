"""The environment variables of the Hugging Face hub, by huggingface_hub's rules but without loading it."""

import os
from pathlib import Path

from pydantic import SecretStr


def hub_cache() -> Path:
    """The hub's cache folder."""
    if (named := os.environ.get("HF_HUB_CACHE")) is not None:
        return Path(named).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def hub_variables(token: SecretStr | None) -> dict[str, str]:
    """The environment variable with which huggingface_hub reads this token; empty without one."""
    return {"HF_TOKEN": token.get_secret_value()} if token else {}


def use_hub_token(token: SecretStr | None) -> None:
    """Lets huggingface_hub use this token in this process, for the models that it downloads."""
    os.environ.update(hub_variables(token))


def hub_is_offline() -> bool:
    """Whether the environment forbids requests to the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
