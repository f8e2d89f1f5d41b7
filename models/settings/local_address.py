"""The URL of a server on this machine for clients on the same machine."""

from pathlib import Path


def local_address(host: str, port: int, certificate: Path | None) -> str:
    """The URL, without a path, of a server that listens on `host`; https with a certificate."""
    scheme = "https" if certificate is not None else "http"
    return f"{scheme}://{_reachable(host)}:{port}"


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", ""):  # noqa: S104 -- compared with, not bound to
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host
