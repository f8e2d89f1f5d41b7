"""Environment variables of this process and of its child processes. No other file changes them or passes them on."""

import json
import os
from typing import Any

from pydantic import SecretStr

from models.settings.secret_names import without_secrets
from models.settings.settings import Settings


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The environment for a Parley process, which then loads the same settings. `extra` wins."""
    environment = dict(os.environ)
    for name in settings.model_fields_set | {"home"}:
        value = getattr(settings, name)
        if value is None:
            continue
        environment[f"PARLEY_{name.upper()}"] = _as_text(value)
    return environment | extra


def let_openmp_threads_sleep() -> None:
    """Makes OpenMP threads sleep instead of spin while they wait. Call it before torch is loaded.

    Spinning threads occupy cores that others need: beside engines, training was 30 to 60 times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def use_network_interface(name: str) -> None:
    """Sets gloo's network interface. By default, gloo uses that of the host name, which is loopback on Debian."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", name)


def _as_text(value: Any) -> str:
    """A setting's value as text for its environment variable."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def engine_environment(**extra: str) -> dict[str, str]:
    """The environment for a foreign program (vLLM): this process's, without secrets. `extra` wins.

    An upstream's key must never reach an engine.
    """
    return without_secrets(os.environ) | extra


def visible_gpus() -> str | None:
    """CUDA_VISIBLE_DEVICES; None where it is not set, so that every GPU may be used."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")
