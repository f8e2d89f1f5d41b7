"""The Parley instance that runs from a home: the state in up.json, and the gateway's address.

Commands use the gateway of their own home. Another program, or another Parley, may listen on the default port.
"""

import json
import re
import ssl
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from models.errors import NOT_CONNECTED, Unavailable
from models.settings.settings import Settings

STATE_FILE = "up.json"
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
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
    """A TLS context for clients of this home's gateway; None for the machine's certificate authorities.

    On this machine it trusts the gateway's own certificate and no other, not even one by the same issuer. Its host name
    is not checked, because clients connect to the loopback address. For a `gateway_address` on another host it is
    checked, and `tls_certificate` is trusted beside the machine's authorities.

    Raises:
        Unavailable: the certificate cannot be read.
    """
    remote = settings.gateway_address is not None and not _is_local(settings.gateway_address, settings)
    state = {} if remote else read_state(settings) or {}
    certificate = state.get("certificate") or settings.tls_certificate
    if certificate is None:
        return None
    path = Path(certificate).expanduser()
    context = ssl.create_default_context() if remote else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = remote
    # The file contains the certificate itself, and not necessarily the root of its chain.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        own = _CERTIFICATE.search(path.read_text("ascii", "replace"))
        if own is None:
            raise Unavailable(f"The gateway's certificate {path} is not in PEM format.")
        # The server's own is the first in the file. Those after it would vouch for all that their authority issues.
        context.load_verify_locations(cadata=own[0])
    except OSError as error:  # SSLError is one
        raise Unavailable(f"The gateway's certificate {path} cannot be read: {error}.") from error
    return context


def _is_local(address: str, settings: Settings) -> bool:
    """Whether an address is that of this machine's gateway, or a loopback address."""
    host = urlsplit(address).hostname or ""
    if address == settings.gateway_url.removesuffix("/v1") or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


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
            code=NOT_CONNECTED,
        )
    return settings.gateway_url
