"""A fault proxy on real sockets: forwards requests to an upstream and breaks the answer, in one way per endpoint.

It writes HTTP/1.1 by hand towards the gateway, because that is what it breaks. Each fault names what the client is
expected to see; `bench.faults.upstream_faults` sends the requests and judges.
"""

import asyncio
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

# What the client may see: the whole answer; a stream that ends with an error frame; an error instead of an answer; an
# answer that cannot be parsed (bytes pass through, and these are not JSON).
Outcome = Literal["whole", "broken", "refused", "unreadable"]
UPSTREAM_DOWN = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Fault:
    """One way to fail, and what a client sees of it: with `stream`, and in a `plain` request.

    `statuses` are those of a refusal. `waits`: the gateway detects it by timeout. `early`: before any answer, so that a
    fallback may answer.
    """

    name: str
    stream: Outcome
    plain: Outcome
    statuses: frozenset[int] = UPSTREAM_DOWN
    waits: bool = False
    early: bool = False


FAULTS = (
    Fault("refuses", "refused", "refused", early=True),
    Fault("resets before headers", "refused", "refused", early=True),
    Fault("closes before headers", "refused", "refused", early=True),
    Fault("resets in the answer", "broken", "refused"),
    Fault("hangs before headers", "refused", "refused", waits=True, early=True),
    Fault("hangs in the answer", "broken", "refused", waits=True),
    Fault("hangs after the answer", "whole", "whole"),
    Fault("drips", "whole", "whole"),
    Fault("drips without end", "broken", "refused"),
    Fault("malformed", "unreadable", "refused"),
    Fault("ends early, cleanly", "broken", "refused"),
    Fault("shorter than its length", "broken", "refused"),
    Fault("chunk cut", "broken", "refused"),
    Fault("two answers", "whole", "whole"),
    Fault("429", "refused", "refused", frozenset({429}), early=True),
    Fault("500", "refused", "refused", frozenset({500, 502}), early=True),
    Fault("503", "refused", "refused", early=True),
    Fault("garbage", "refused", "refused", early=True),
    Fault("huge headers", "refused", "refused", early=True),
    Fault("wrong content type", "refused", "refused"),
    Fault("empty", "refused", "refused"),
)
_HUGE = 4 * 2**20
_PAUSE_S = 0.03  # so that the gateway reads the first part separately


@dataclass
class Endpoint:
    """One address of the proxy and its fault. Once `healed` it forwards everything unchanged."""

    fault: Fault
    listener: socket.socket
    silence_s: float
    healed: bool = False
    requests: Counter[str] = field(default_factory=Counter)  # text of the last message → number of requests
    open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """The URL without `/v1`."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"


class FaultProxy:
    """The proxy, in a thread with its own event loop. `silence_s`: the gateway's timeout for a silent upstream."""

    def __init__(self, upstream: str, silence_s: float) -> None:
        self._upstream = upstream
        self._silence_s = silence_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._servers: list[asyncio.Server] = []
        self._doors: list[Endpoint] = []

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def endpoint(self, fault: Fault) -> Endpoint:
        """Opens an endpoint with this fault."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        endpoint = Endpoint(fault, listener, self._silence_s)
        self._doors.append(endpoint)
        if fault.name != "refuses":  # a bound port without a listener refuses
            self._run(self._listen(endpoint))
        return endpoint

    def heal(self, endpoint: Endpoint) -> None:
        """Makes an endpoint healthy, as if its server had been replaced."""
        endpoint.healed = True
        self._run(_close(endpoint))
        if endpoint.fault.name == "refuses":
            self._run(self._listen(endpoint))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _begin(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for endpoint in self._doors:
            await _close(endpoint)
        assert self._session is not None
        await self._session.close()

    async def _listen(self, endpoint: Endpoint) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            endpoint.open.add(task)
            try:
                while await self._handle(endpoint, reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                pass
            except asyncio.CancelledError:
                task.uncancel()
            finally:
                endpoint.open.discard(task)
                writer.close()

        self._servers.append(await asyncio.start_server(serve, sock=endpoint.listener, backlog=1024))

    async def _handle(self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Handles one request; returns whether another may follow on the connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        message = json.loads(body)["messages"][-1]
        endpoint.requests[message["content"]] += 1
        if endpoint.healed:
            await _write(writer, _chunked(*await self._pieces(lines[0].split()[1], body)))
            return True
        return await self._break(endpoint, lines[0].split()[1], body, reader, writer)

    async def _pieces(self, path: str, body: bytes) -> tuple[str, list[bytes]]:
        """The upstream's content type, and the frames of its stream or the halves of its body."""
        assert self._session is not None
        async with self._session.post(self._upstream + path, data=body) as answer:
            kind, data = answer.headers["content-type"], await answer.read()
        if kind.startswith("text/event-stream"):
            return kind, [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]
        return kind, [data[: len(data) // 2], data[len(data) // 2 :]]

    async def _break(
        self, endpoint: Endpoint, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        name = endpoint.fault.name
        if name == "resets before headers":
            _reset(writer)
            return False
        if name == "closes before headers":
            return False
        if name == "hangs before headers":
            await reader.read()  # until the gateway gives up
            return False
        if name in _ANSWERS:
            await _write(writer, _ANSWERS[name])
            return name != "garbage"
        kind, pieces = await self._pieces(path, body)
        half = max(len(pieces) // 2, 1)
        begun = _head(kind, "transfer-encoding: chunked") + b"".join(_chunk(piece) for piece in pieces[:half])
        if name == "resets in the answer":
            await _write(writer, begun)
            await asyncio.sleep(_PAUSE_S)
            _reset(writer)
            return False
        if name == "hangs in the answer":
            await _write(writer, begun)
            await reader.read()
            return False
        if name == "hangs after the answer":  # complete, but the end of the message never comes
            length = sum(map(len, pieces))
            if kind.startswith("text/event-stream"):
                await _write(writer, _head(kind, "transfer-encoding: chunked"), *map(_chunk, pieces))
            else:
                await _write(writer, _head(kind, f"content-length: {length}"), *pieces)
            await reader.read()
            return False
        if name == "drips without end":
            await _write(writer, begun)
            while not reader.at_eof():
                await asyncio.sleep(endpoint.silence_s * 0.3)
                await _write(writer, _chunk(b" "))
            return False
        if name == "drips":
            data = b"".join(pieces)
            size = max(len(data) // 8, 1)
            await _write(writer, _head(kind, "transfer-encoding: chunked"))
            for start in range(0, len(data), size):
                await _write(writer, _chunk(data[start : start + size]))
                await asyncio.sleep(endpoint.silence_s * 0.3)
            await _write(writer, _LAST_CHUNK)
            return True
        await _write(writer, *_broken(name, kind, pieces, half))
        return name == "two answers"


def _broken(name: str, kind: str, pieces: Sequence[bytes], half: int) -> list[bytes]:
    """Answers with broken content or framing, independent of timing."""
    stream = kind.startswith("text/event-stream")
    first, length = pieces[:half], sum(map(len, pieces))
    chunked = _head(kind, "transfer-encoding: chunked")
    if name == "malformed" and stream:
        return [chunked, *map(_chunk, [*first, b'data: {"id": "chat\n\n', *pieces[half:]]), _LAST_CHUNK]
    if name == "malformed":
        return [chunked, _chunk(first[0] + b"}"), _LAST_CHUNK]
    if name == "ends early, cleanly":
        return [chunked, *map(_chunk, first), _LAST_CHUNK] if stream else [_head(kind, "connection: close"), *first]
    if name == "shorter than its length":
        return [_head(kind, f"content-length: {length}"), *first]
    if name == "chunk cut":
        return [chunked, *map(_chunk, first), _chunk(pieces[half])[:-9]]
    if name == "two answers":
        whole = b"".join([_head(kind, f"content-length: {length}"), *pieces])
        other = b'{"choices": [{"message": {"content": "somebody else\'s"}}]}'
        return [whole + _head("application/json", f"content-length: {len(other)}") + other]
    assert name == "wrong content type"
    other = b"<html>Welcome to nginx</html>" if stream else b"".join(pieces)
    return [_head("text/html" if stream else "text/event-stream", f"content-length: {len(other)}"), other]


def _head(kind: str, *lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", f"content-type: {kind}", *lines, "", ""]).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_LAST_CHUNK = b"0\r\n\r\n"


def _chunked(kind: str, pieces: Sequence[bytes]) -> bytes:
    return b"".join([_head(kind, "transfer-encoding: chunked"), *map(_chunk, pieces), _LAST_CHUNK])


def _refusal(status: str, *lines: str) -> bytes:
    body = json.dumps({"error": {"message": "not now", "type": "server_error", "param": None, "code": None}}).encode()
    return _head("application/json", f"content-length: {len(body)}", *lines, status=status) + body


# Answers that do not depend on the request.
_ANSWERS = {
    "429": _refusal("429 Too Many Requests", "retry-after: 7"),
    "500": _refusal("500 Internal Server Error"),
    "503": _refusal("503 Service Unavailable", "retry-after: 3"),
    "garbage": b"\x16\x03\x01\x02\x00\x01\x00 this is no HTTP at all\r\n\r\n" * 8,
    "huge headers": _head(
        "application/json", "content-length: 2", *[f"x-{n}: {'a' * 1000}" for n in range(_HUGE // 1000)]
    )
    + b"{}",
    "empty": _head("application/json", "content-length: 0"),
}


async def _close(endpoint: Endpoint) -> None:
    tasks = list(endpoint.open)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _write(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    writer.write(b"".join(parts))
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
