"""A proxy that records every byte which a server sends to a browser: headers and bodies, event streams included.

Bodies are recorded joined and uncompressed, so that a name cannot hide at a chunk's border or in compressed data.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send

from tests.stack import free_ports

_HOP_BY_HOP = {b"connection", b"transfer-encoding", b"keep-alive"}


class Recorder:
    """The ASGI app of the proxy, and the exchanges so far."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._exchanges: list[tuple[str, bytearray]] = []

    def exchanges(self) -> list[tuple[str, bytes]]:
        """Each request's method and path, and its raw response, in the order of the requests."""
        return [(request, bytes(response)) for request, response in list(self._exchanges)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
        response = bytearray()
        self._exchanges.append((f"{scope['method']} {path}", response))
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"] if k != b"accept-encoding"]
        headers.append(("accept-encoding", "identity"))
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session,
            session.request(
                scope["method"], self._target + path, data=body, headers=headers, allow_redirects=False
            ) as answer,
        ):
            kept = [(k, v) for k, v in answer.raw_headers if k.lower() not in _HOP_BY_HOP]
            response += f"{answer.status} {answer.reason}\n".encode()
            response += b"\n".join(k + b": " + v for k, v in answer.raw_headers) + b"\n\n"
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for piece in answer.content.iter_any():
                response += piece
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


@contextmanager
def recording(target: str) -> Iterator[tuple[str, Recorder]]:
    """A proxy before `target`, on a port of its own: its address, and its recorder."""
    (port,) = free_ports(1)
    recorder = Recorder(target)
    config = uvicorn.Config(recorder, host="127.0.0.1", port=port, log_level="error", lifespan="off")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        threading.Event().wait(0.02)
    yield f"http://127.0.0.1:{port}", recorder
    server.should_exit = True
    thread.join(10)
