"""Reads request bodies whole, within a limit for each and one for all in memory together. It parses no JSON."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from models.errors import Busy, TooLarge
from models.settings.settings import Settings
from serve.transport.asgi import Receive, Scope, header


class ClientDisconnected(Exception):
    """The client closed the connection before its request was complete."""


class RequestBodyReader:
    """Reads and counts the bodies in memory. Call `release` with a body's size when its request is over."""

    def __init__(self, settings: Settings) -> None:
        self._limit = int(settings.max_body_mib * 2**20)
        self._total_limit = max(int(settings.max_bodies_mib * 2**20), self._limit)
        self._held_bytes = 0

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """A request's whole body, which counts until `release`.

        Raises:
            TooLarge: it is over the limit, or declares to be. Busy: all bodies together are over theirs.
            ClientDisconnected: it was not sent to its end.
        """
        declared = header(scope, b"content-length")
        if declared is not None and declared.isdigit():
            self._check(int(declared), int(declared))
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            self.hold(len(body))
            return body
        pieces, size = [], 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected
                piece = message.get("body", b"")
                self._check(len(piece), size + len(piece))
                pieces.append(piece)
                size += len(piece)
                self._held_bytes += len(piece)
                if not message.get("more_body"):
                    return b"".join(pieces)
                message = await receive()
        except BaseException:
            self.release(size)
            raise

    def hold(self, size: int) -> None:
        """Counts a body of `size` bytes that is in memory already, until `release`. Raises TooLarge or Busy."""
        self._check(size, size)
        self._held_bytes += size

    def release(self, size: int) -> None:
        """Stops counting a body of `size` bytes."""
        self._held_bytes -= size

    def _check(self, additional: int, size: int) -> None:
        if size > self._limit:
            raise body_too_large(self._limit)
        if self._held_bytes + additional > self._total_limit:
            raise Busy(
                "The gateway's memory for request bodies is full (max_bodies_mib). Try again in a moment.",
                retry_after=1,
            )


class LargeBodyTurns:
    """Lets large bodies be processed one at a time, each followed by a pause as long as its processing took.

    Parsing and checking a body of 8 MiB can occupy the event loop for 50 ms. Without turns, several such bodies at once
    would delay all other requests by the sum of their times.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Waits for a turn. The block should not await anything."""
        await self._turn.acquire()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            yield
        finally:
            loop.call_later(loop.time() - began, self._turn.release)


def body_too_large(limit: int) -> TooLarge:
    """The 413 for a body of more than `limit` bytes."""
    return TooLarge(f"The body is over the limit of {limit} bytes. The operator can raise max_body_mib.")
