"""HTTP to hosted upstreams: aiohttp, for its TLS, proxies and decompression. The same face as `serve.wire`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import aiohttp

from serve.replies import Headers
from serve.wire import MOST, Broken


class Answer(Protocol):
    """What `serve.relay` reads, whoever it asked: `serve.wire.Answer`, or `HostedAnswer`."""

    status: int
    headers: Headers

    async def __aenter__(self) -> "Answer": ...
    async def __aexit__(self, *_: object) -> None: ...
    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        ...

    async def piece(self) -> bytes:
        """What has come since the last time; empty at the end. Raises Broken or TimeoutError."""
        ...

    async def read(self) -> bytes:
        """All of the body."""
        ...


class Upstreams:
    """Connections to servers that are not ours. `open` and `close` with the event loop."""

    def __init__(self, *, connect_s: float, silence_s: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=silence_s)
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        """Makes the session."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=15, ttl_dns_cache=60),
            timeout=self._timeout,
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

    async def post(self, address: str, body: bytes, headers: Mapping[str, str]) -> "HostedAnswer":
        """Sends a request, once: it may cost money. Redirects are not followed: they would take our key along.

        Raises:
            Broken: no connection, or one that ended; TimeoutError: silence.
        """
        assert self._session is not None
        with _broken():
            answer = await self._session.post(address, data=body, headers=headers, allow_redirects=False)
        return HostedAnswer(answer)


class HostedAnswer:
    """An upstream's answer whose headers are there."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.headers: Headers = [(name.lower(), value) for name, value in answer.raw_headers]

    async def __aenter__(self) -> "HostedAnswer":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._answer.__aexit__(None, None, None)

    def header(self, name: bytes) -> bytes:
        """A header by its lower-case name; empty where there is none."""
        return next((value for key, value in self.headers if key == name), b"")

    async def piece(self) -> bytes:
        """What has come since the last time; empty at the end."""
        with _broken():
            return await self._answer.content.readany()

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
    except TimeoutError:
        raise
    except (aiohttp.ClientError, OSError) as error:
        raise Broken(str(error)) from error
