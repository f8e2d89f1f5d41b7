"""Bodies of requests, read whole and bounded: each one, and all that are in memory together. It reads no JSON."""

from models.errors import Busy, TooLarge
from models.settings import Settings
from serve.transport import responses
from serve.transport.responses import Receive, Scope


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


class Bodies:
    """The bodies that are in memory. Who has read one lets it go when its request is over."""

    def __init__(self, settings: Settings) -> None:
        self._limit = int(settings.max_body_mib * 2**20)
        self._most = max(int(settings.max_bodies_mib * 2**20), self._limit)
        self._held = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """A request's whole body, which counts until `let_go`.

        Raises:
            TooLarge: it is over the limit for one, or says so. Busy: all of them together are over theirs.
            ClientGone: it never came to its end.
        """
        said = responses.header(scope, b"content-length")
        if said is not None and said.isdigit():
            length = int(said)
            if length > self._limit or self._held + length > self._most:
                self._room_for(length, length)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            self.hold(body)
            return body
        pieces, size = [], 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                self._room_for(len(piece), size + len(piece))
                pieces.append(piece)
                size += len(piece)
                self._held += len(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
                message = await receive()
        except BaseException:
            self.let_go(size)
            raise

    def hold(self, body: bytes) -> None:
        """A whole body is here, and counts until `let_go`. Raises TooLarge or Busy."""
        size = len(body)
        if size > self._limit or self._held + size > self._most:
            self._room_for(size, size)
        self._held += size

    def let_go(self, size: int) -> None:
        """A body of so many bytes is not needed any more."""
        self._held -= size

    def _room_for(self, more: int, whole: int) -> None:
        if whole > self._limit:
            raise too_large(self._limit)
        if self._held + more > self._most:
            raise Busy("The gateway holds as many requests as it has memory for. Try again in a moment.", retry_after=1)


def too_large(limit: int) -> TooLarge:
    """The 413 for a body of more bytes than the operator allows."""
    return TooLarge(f"The body is over the limit of {limit} bytes: the operator sets it as max_body_mib.")
