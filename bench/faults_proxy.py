"""A fault proxy on real sockets: asks the upstream behind it, and hands the answer on in one broken way a door.

It speaks HTTP/1.1 by hand on the gateway's side, because that is what it breaks. What the client should see of each
fault stands beside the fault; who asks and who judges is `bench.faults_path`.
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

# What the client may see: the answer whole; a stream that ends in an error frame; an error instead of an answer; an
# answer that no client can take for a whole one (bytes pass through, and these are no JSON).
Sight = Literal["whole", "broken", "refused", "unreadable"]
UPSTREAM_DOWN = frozenset({502, 503, 504})


@dataclass(frozen=True)
class Fault:
    """One way to fail. `stream` and `plain`: what a client sees that asked for a stream, or not for one.

    `statuses` are those of a refusal. `waits`: the gateway finds out by its clock. `early`: before any answer, so that
    another model may answer in its place.
    """

    name: str
    stream: Sight
    plain: Sight
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
_LATER_S = 0.03  # the gateway shall see the first part as a piece of its own


@dataclass
class Door:
    """One address of the proxy, with its fault. Once `healed` it passes everything on."""

    fault: Fault
    listener: socket.socket
    silence_s: float
    healed: bool = False
    asked: Counter[str] = field(default_factory=Counter)  # text of the last message → how often it came
    open: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """Without `/v1`."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"


class FaultProxy:
    """The proxy, in a thread with a loop of its own. `silence_s`: the gateway's patience, for what must outlast it."""

    def __init__(self, upstream: str, silence_s: float) -> None:
        self._upstream = upstream
        self._silence_s = silence_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._session: aiohttp.ClientSession | None = None
        self._servers: list[asyncio.Server] = []
        self._doors: list[Door] = []

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._run(self._begin())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def door(self, fault: Fault) -> Door:
        """A new address with this fault."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        door = Door(fault, listener, self._silence_s)
        self._doors.append(door)
        if fault.name != "refuses":  # a port that is bound and not listened on refuses
            self._run(self._listen(door))
        return door

    def heal(self, door: Door) -> None:
        """From now on this address is a good one, as if another server had it."""
        door.healed = True
        self._run(_close(door))
        if door.fault.name == "refuses":
            self._run(self._listen(door))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _begin(self) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for door in self._doors:
            await _close(door)
        assert self._session is not None
        await self._session.close()

    async def _listen(self, door: Door) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            door.open.add(task)
            try:
                while await self._one(door, reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                pass
            except asyncio.CancelledError:
                task.uncancel()
            finally:
                door.open.discard(task)
                writer.close()

        self._servers.append(await asyncio.start_server(serve, sock=door.listener, backlog=1024))

    async def _one(self, door: Door, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether another may follow on this connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        body = await reader.readexactly(int(headers["content-length"]))
        asked = json.loads(body)
        door.asked[asked["messages"][-1]["content"]] += 1
        if door.healed:
            await _write(writer, _chunked(*await self._pieces(lines[0].split()[1], body)))
            return True
        return await self._break(door, lines[0].split()[1], body, reader, writer)

    async def _pieces(self, path: str, body: bytes) -> tuple[str, list[bytes]]:
        """The upstream's answer: its content type, and the frames of a stream or the halves of a body."""
        assert self._session is not None
        async with self._session.post(self._upstream + path, data=body) as answer:
            kind, data = answer.headers["content-type"], await answer.read()
        if kind.startswith("text/event-stream"):
            return kind, [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]
        return kind, [data[: len(data) // 2], data[len(data) // 2 :]]

    async def _break(
        self, door: Door, path: str, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        name = door.fault.name
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
            await asyncio.sleep(_LATER_S)
            _reset(writer)
            return False
        if name == "hangs in the answer":
            await _write(writer, begun)
            await reader.read()
            return False
        if name == "hangs after the answer":  # all of it is there, but the end of the message never comes
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
                await asyncio.sleep(door.silence_s * 0.3)
                await _write(writer, _chunk(b" "))
            return False
        if name == "drips":
            data = b"".join(pieces)
            size = max(len(data) // 8, 1)
            await _write(writer, _head(kind, "transfer-encoding: chunked"))
            for start in range(0, len(data), size):
                await _write(writer, _chunk(data[start : start + size]))
                await asyncio.sleep(door.silence_s * 0.3)
            await _write(writer, _LAST_CHUNK)
            return True
        await _write(writer, *_broken(name, kind, pieces, half))
        return name == "two answers"


def _broken(name: str, kind: str, pieces: Sequence[bytes], half: int) -> list[bytes]:
    """Answers that are broken in what they are, and not in when they come."""
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


# Answers that do not depend on what was asked.
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


async def _close(door: Door) -> None:
    tasks = list(door.open)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _write(writer: asyncio.StreamWriter, *parts: bytes) -> None:
    writer.write(b"".join(parts))
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST and not with FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
