"""Validates settings that list origins or networks, as a list or as comma-separated text."""

import re
from ipaddress import ip_network
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
