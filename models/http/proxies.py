"""Reverse proxies whose X-Forwarded-* headers are trusted. Anyone else could forge these headers."""

from collections.abc import Iterable, MutableMapping
from ipaddress import ip_address, ip_network
from typing import Any

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"forwarded")


class TrustedProxies:
    """The proxies in the setting `trusted_proxies`. Falsy if there are none."""

    def __init__(self, networks: Iterable[str]) -> None:
        self._networks = tuple(ip_network(network) for network in networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def apply(self, scope: MutableMapping[str, Any]) -> None:
        """Sets client, host and scheme from a trusted proxy's headers, and removes these headers in any case."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        forwarded = {name: value for name, value in headers if name in _FORWARDED}
        if not forwarded:
            return
        scope["headers"] = headers = [pair for pair in headers if pair[0] not in _FORWARDED]
        client = scope.get("client")
        if not client or not self._trusts(client[0]):
            return
        if (address := self._client(forwarded.get(b"x-forwarded-for", b""))) is not None:
            scope["client"] = (address, 0)
        scheme = _first(forwarded.get(b"x-forwarded-proto", b"")).lower()
        if scheme in (b"http", b"https"):
            scope["scheme"] = scheme.decode()
        if host := _first(forwarded.get(b"x-forwarded-host", b"")):
            scope["headers"] = [(b"host", host), *(pair for pair in headers if pair[0] != b"host")]

    def _client(self, value: bytes) -> str | None:
        """The last address that is not a trusted proxy. The addresses before it were sent by that client itself."""
        addresses = [part.strip() for part in reversed(value.decode("latin-1").split(","))]
        return next((each for each in addresses if _is_address(each) and not self._trusts(each)), None)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None) or parsed
        return any(mapped in network for network in self._networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _first(value: bytes) -> bytes:
    return value.split(b",")[0].strip()
