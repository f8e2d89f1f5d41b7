"""HTTP to hosted upstreams: aiohttp, for its TLS, proxies and decompression. The same face as `wire`, beside it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import aiohttp

from serve.transport.engine_client import MOST, Broken, Unreachable
from serve.transport.responses import Headers
from serve.transport.timeouts import Timeouts


class Answer(Protocol):
    """What is read of an answer, whoever gave it: `serve.transport.engine_client.Connection`, or `HostedAnswer`."""

    status: int
    headers: Headers

    def leave(self) -> None:
        """The answer is done with, read to its end or not."""
        ...

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        ...

    def at_once(self) -> bytes:
        """All of the body, where it is here already; empty where it has to be read."""
        ...

    async def piece(self) -> bytes:
        """What has come since the last time; empty at the end. Raises Broken or TimeoutError."""
        ...

    async def pour(self, sink: Callable[[bytes], bool]) -> None:
        """Hands pieces to `sink` as they come, until it says False; or returns at once, where that saves nothing."""
        ...

    async def read(self) -> bytes:
        """All of the body."""
        ...


class Upstreams:
    """Connections to servers that are not ours. `open` and `close` with the event loop."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Makes the session."""
        limits = self._timeouts
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ttl_dns_cache=60),
            timeout=aiohttp.ClientTimeout(
                total=limits.total_s, sock_connect=limits.connect_s, sock_read=limits.first_byte_s
            ),
            auto_decompress=True,
            trust_env=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=2**18,
            skip_auto_headers=("User-Agent", "Accept"),
        )

    async def close(self) -> None:
        """Closes the session."""
        if self._session:
            await self._session.close()

    async def post(self, address: str, path: str, body: bytes, authorization: str | None) -> "HostedAnswer":
        """Sends JSON, once: it may cost money. Only where no connection was to be had it tries a second time.

        Redirects are not followed: they would take our key along.

        Raises:
            Unreachable: no connection. Broken: one that ended. TimeoutError: the answer took longer than it may.
        """
        try:
            return await self._post(address + path, body, authorization)
        except Unreachable:
            return await self._post(address + path, body, authorization)

    async def _post(self, url: str, body: bytes, authorization: str | None) -> "HostedAnswer":
        assert self._session is not None
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if authorization:
            headers["authorization"] = authorization
        with _broken():
            # Headers that come drop by drop are no silence to aiohttp.
            async with asyncio.timeout(self._timeouts.connect_s + self._timeouts.first_byte_s):
                answer = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        if answer.connection is not None and answer.connection.protocol is not None:
            # From here on another silence counts.
            answer.connection.protocol.read_timeout = self._timeouts.idle_s
            answer.connection.protocol.start_timeout()
        return HostedAnswer(answer)


class HostedAnswer:
    """An upstream's answer whose headers are there."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Headers = [(name.lower(), value) for name, value in answer.raw_headers]

    def leave(self) -> None:
        """The answer is done with: where it was not read to its end, the connection is closed."""
        self._answer.release()

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    def at_once(self) -> bytes:
        """It has to be read."""
        return b""

    async def piece(self) -> bytes:
        """What has come since the last time; empty at the end."""
        with _broken():
            return await self._answer.content.readany()

    async def pour(self, sink: Callable[[bytes], bool]) -> None:
        """Returns at once."""

    async def read(self) -> bytes:
        """All of the body. Raises Broken where it has more than `MOST` bytes, and as `piece`."""
        pieces, size = [], 0
        while piece := await self.piece():
            pieces.append(piece)
            size += len(piece)
            if size > MOST:
                raise Broken(f"an answer of more than {MOST} bytes")
        return b"".join(pieces)


@contextmanager
def _broken() -> Iterator[None]:
    """Whatever aiohttp says of a connection that is gone, as the relay knows it; silence stays silence."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(str(error)) from error
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise Broken(str(error)) from error
