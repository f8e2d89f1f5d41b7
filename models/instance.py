"""The Parley that runs from a home: what its parent process reports in up.json, and the gateway's address.

Commands ask the gateway of their own home. Another program, or another person's Parley, may listen on the default port.
"""

import json
from typing import Any

import psutil

from models.errors import Unavailable
from models.settings import Settings

STATE_FILE = "up.json"
_CLOCK_S = 1.0  # a process's start is read back from the system to the hundredth of a second


def read_state(settings: Settings) -> dict[str, Any] | None:
    """The state that this home's parent process reports: see `serve.launcher.parent`. None if none runs.

    A parent that was killed leaves its file behind, and its process number may belong to another program by now.
    """
    try:
        state = json.loads((settings.home / STATE_FILE).read_bytes())
        same = abs(psutil.Process(state["pid"]).create_time() - state["started"]) < _CLOCK_S
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return state if same else None


def gateway_url(settings: Settings) -> str:
    """The gateway's `base_url` for clients on this machine: of the running instance, else by the settings."""
    state = read_state(settings)
    return str(state["gateway"]) if state and state.get("gateway") else settings.gateway_url


def find_gateway(settings: Settings) -> str:
    """The gateway's `base_url`, for requests to this home's own gateway.

    Raises:
        Unavailable: no Parley runs from this home, and no port is set for a gateway that was started by itself.
    """
    state = read_state(settings)
    if state and state.get("gateway"):
        return str(state["gateway"])
    if "port" not in settings.model_fields_set:
        raise Unavailable(
            f"No Parley runs from {settings.home}: start it with `parley up`. For a gateway that was started by "
            "itself, set PARLEY_PORT.",
            code="not_connected",
        )
    return settings.gateway_url
