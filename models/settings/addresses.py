"""Addresses in settings: lists of origins and networks, and the URL of a server on this machine."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

# As a browser sends it: scheme, lower-case host, and the port unless it is the default.
_ORIGIN = re.compile(r"https?://[a-z0-9._\[\]:-]+")


def checked_origins(value: Any) -> Any:
    """The origins of a setting as a list. Raises ValueError for one that is not an origin."""
    origins = _split(value)
    for origin in origins if isinstance(origins, list | tuple) else ():
        if not _ORIGIN.fullmatch(str(origin)):
            raise ValueError(f"{origin!r} is not an origin: write https://app.example.com, without a path or *")
    return origins


def checked_networks(value: Any) -> Any:
    """The addresses and networks of a setting as a list. Raises ValueError for one that is neither."""
    networks = _split(value)
    for network in networks if isinstance(networks, list | tuple) else ():
        try:
            ip_network(str(network))
        except ValueError:
            message = f"{network!r} is neither an address nor a network: write 127.0.0.1 or 10.0.0.0/8"
            raise ValueError(message) from None
    return networks


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def local_address(host: str, port: int, certificate: Path | None) -> str:
    """The URL, without a path, of a server that listens on `host`, for clients on the same machine."""
    scheme = "https" if certificate is not None else "http"
    return f"{scheme}://{_reachable(host)}:{port}"


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", ""):  # noqa: S104 -- compared with, not bound to
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
