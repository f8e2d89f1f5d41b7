"""Checks where a request comes from: the Origin header of other sites, and Host names that only seem to be local."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers


def is_cross_site(method: str, headers: Headers) -> bool:
    """Whether another site's page sends this request. Cookies alone would let it in."""
    origin = headers.get("origin")
    if method in ("GET", "HEAD") or not origin:
        return False
    expected = headers.get("host", "")
    try:
        return urlsplit(origin).netloc != expected
    except ValueError:  # such as http://[
        return True


def is_loopback(host: str) -> bool:
    """Whether a Host header or a listening address means this machine alone."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name == "localhost" or name.endswith(".localhost"):
            return True
        return ip_address(name).is_loopback
    except ValueError:
        return False
