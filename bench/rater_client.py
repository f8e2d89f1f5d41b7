"""A rater's HTTP client that keeps every byte of a response and the time at which it arrived."""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_READ_BYTES = 65_536


@dataclass(frozen=True)
class Exchange:
    """A request and all bytes of its response.

    `arrivals` has the seconds since the request and the bytes of each read from the socket.
    """

    request: str
    raw: bytes
    arrivals: tuple[tuple[float, int], ...]

    @property
    def status(self) -> int:
        return int(self.raw[:13].split(b" ")[1])

    @property
    def head(self) -> bytes:
        """The status line and the headers."""
        return self.raw.partition(b"\r\n\r\n")[0]

    @property
    def seconds(self) -> float:
        """From the request until the last byte."""
        return self.arrivals[-1][0]

    def json(self) -> dict[str, Any]:
        """The JSON object in the body."""
        return json.loads(self.raw.partition(b"\r\n\r\n")[2])


@dataclass
class RaterClient:
    """One rater's browser at `port` of loopback: it has cookies and opens a connection for each request."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str) -> Exchange:
        """The exchange of a GET."""
        return await self._send("GET", path, b"", {"accept": "text/html"})

    async def post(self, path: str, body: Mapping[str, Any]) -> Exchange:
        """The exchange of a POST with a JSON object."""
        return await self._send("POST", path, json.dumps(body).encode(), {"content-type": "application/json"})

    async def _send(self, method: str, path: str, content: bytes, headers: Mapping[str, str]) -> Exchange:
        sent = {
            "host": f"127.0.0.1:{self.port}",
            "connection": "close",
            "content-length": str(len(content)),
            "cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            **headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        raw, arrivals, began = bytearray(), [], time.perf_counter()
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + content)
            while piece := await reader.read(_READ_BYTES):
                raw += piece
                arrivals.append((time.perf_counter() - began, len(piece)))
        finally:
            writer.close()
        if not arrivals:
            raise ConnectionError(f"{method} {path}: no response")
        exchange = Exchange(f"{method} {path}", bytes(raw), tuple(arrivals))
        self._keep_cookies(exchange.head)
        return exchange

    def _keep_cookies(self, head: bytes) -> None:
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "set-cookie":
                key, _, content = value.partition(";")[0].partition("=")
                self.cookies[key] = content
