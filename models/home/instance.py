"""The Parley instance that runs from a home: the state in up.json, and the gateway's address.

Commands use the gateway of their own home. Another program, or another Parley, may listen on the default port.
"""

import json
import ssl
from pathlib import Path
from typing import Any

import psutil

from models.errors import Unavailable
from models.settings.settings import Settings

STATE_FILE = "up.json"
_CLOCK_S = 1.0  # the system reports start times in hundredths of a second


def read_state(settings: Settings) -> dict[str, Any] | None:
    """The state that this home's parent process reports: see `serve.launcher.parent`. None if it is not running.

    A killed parent leaves its file behind, and its process id may since have been reused by another program.
    """
    try:
        state = json.loads((settings.home / STATE_FILE).read_bytes())
        same = abs(psutil.Process(state["pid"]).create_time() - state["started"]) < _CLOCK_S
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None
    return state if same else None


def gateway_url(settings: Settings) -> str:
    """The gateway's `base_url`: the setting `gateway_address`, the running instance's, or this machine's default."""
    if settings.gateway_address:
        return f"{settings.gateway_address}/v1"
    state = read_state(settings)
    return str(state["gateway"]) if state and state.get("gateway") else settings.gateway_url


def gateway_tls(settings: Settings) -> ssl.SSLContext | None:
    """A TLS context for clients of this home's gateway that trusts only the gateway's certificate. None without TLS.

    The host name in the certificate is not checked, because clients connect to the loopback address.

    Raises:
        Unavailable: the certificate cannot be read.
    """
    state = read_state(settings) or {}
    certificate = state.get("certificate") or settings.tls_certificate
    if certificate is None:
        return None
    context = ssl.create_default_context()
    context.check_hostname = False
    # The file contains the certificate itself, and not necessarily the root of its chain.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(Path(certificate).expanduser())
    except OSError as error:  # SSLError is one
        raise Unavailable(f"The gateway's certificate {certificate} cannot be read: {error}.") from error
    return context


def find_gateway(settings: Settings) -> str:
    """The `base_url` of this home's gateway.

    Raises:
        Unavailable: Parley is not running from this home, and neither an address nor a port is set for a gateway that
            was started alone.
    """
    if settings.gateway_address:
        return f"{settings.gateway_address}/v1"
    state = read_state(settings)
    if state and state.get("gateway"):
        return str(state["gateway"])
    if "port" not in settings.model_fields_set:
        raise Unavailable(
            f"Parley is not running from {settings.home}: start it with `parley up`. For a gateway that was started "
            "alone, set PARLEY_PORT.",
            code="not_connected",
        )
    return settings.gateway_url
