"""HTTP client for hosted upstreams over aiohttp, for TLS, proxies and decompression.

Its responses have the interface of `serve.transport.engine_client`.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import aiohttp

from serve.transport.asgi import Headers
from serve.transport.engine_client import ConnectionBroken, Unreachable, read_whole
from serve.transport.timeouts import Timeouts


class ServerResponse(Protocol):
    """The interface of a response from `serve.transport.engine_client.EngineConnection` or `HostedResponse`."""

    status: int
    headers: Headers

    def release(self) -> None:
        """Ends the use of the response, whether or not it was read to its end."""
        ...

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty if there is none."""
        ...

    def buffered_body(self) -> bytes:
        """The whole body if it has already arrived; empty if it has to be read."""
        ...

    async def read_piece(self) -> bytes:
        """What has arrived since the last call; empty at the end. Raises ConnectionBroken or TimeoutError."""
        ...

    async def stream_to(self, sink: Callable[[bytes], bool]) -> None:
        """Passes pieces to `sink` as they arrive, until it returns False; or returns at once if that saves nothing."""
        ...

    async def read(self) -> bytes:
        """The whole body."""
        ...


class UpstreamClient:
    """Connections to hosted upstreams. `open` and `close` run with the event loop."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Creates the session."""
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

    async def post(self, address: str, path: str, body: bytes, authorization: str | None) -> "HostedResponse":
        """Sends a JSON request. It is retried only if no connection was made, because it may cost money.

        Redirects are not followed, because they would forward our key.

        Raises:
            Unreachable: no connection. ConnectionBroken: the connection ended. TimeoutError: a timeout was reached.
        """
        try:
            return await self._post(address + path, body, authorization)
        except Unreachable:
            return await self._post(address + path, body, authorization)

    async def _post(self, url: str, body: bytes, authorization: str | None) -> "HostedResponse":
        assert self._session is not None
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if authorization:
            headers["authorization"] = authorization
        with _translate_errors():
            # aiohttp's read timeout does not cover headers that arrive in small pieces.
            async with asyncio.timeout(self._timeouts.connect_s + self._timeouts.first_byte_s):
                response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        if response.connection is not None and response.connection.protocol is not None:
            # The body has its own read timeout.
            response.connection.protocol.read_timeout = self._timeouts.idle_s
            response.connection.protocol.start_timeout()
        return HostedResponse(response)


class HostedResponse:
    """An upstream's response after its headers have arrived."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = [(name.lower(), value) for name, value in response.raw_headers]

    def release(self) -> None:
        """Ends the use of the response. The connection is closed unless the response was read to its end."""
        self._response.release()

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty if there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    def buffered_body(self) -> bytes:
        """Always empty: the body has to be read."""
        return b""

    async def read_piece(self) -> bytes:
        """What has arrived since the last call; empty at the end."""
        with _translate_errors():
            return await self._response.content.readany()

    async def stream_to(self, sink: Callable[[bytes], bool]) -> None:
        """Returns at once: aiohttp has no cheaper way than `read_piece`."""

    async def read(self) -> bytes:
        """The whole body. Raises ConnectionBroken if it exceeds `MAX_RESPONSE_BYTES`, and as `read_piece`."""
        return await read_whole(self.read_piece)


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Translates aiohttp's errors to those of `serve.transport.engine_client`. Timeouts pass unchanged."""
    try:
        yield
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise Unreachable(str(error)) from error
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionBroken(str(error)) from error
