"""The types of ASGI messages that every folder of serve/ shares, content types, and a header lookup."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
PROMETHEUS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a request header by its lower-case name, or None."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None
