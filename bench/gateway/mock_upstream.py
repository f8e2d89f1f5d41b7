"""The mock upstream of `bench.gateway`: answers at once, or streams 64 chunks 10 ms apart.

    python -m bench.gateway.mock_upstream PORT

It builds every response before it listens and needs one uvloop timer per chunk, so that one core sustains 512 streams,
which a web framework does not. It searches a request's body for two strings and parses no JSON.
"""

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

MODEL = "mock"
CHUNKS, PACE_S = 64, 0.010
WORD = b'" word'  # once per frame, however a proxy rewrites the rest


def _frame(content: dict[str, object]) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps(head | content, separators=(",", ":")).encode() + b"\n\n"


def frames(usage: bool) -> list[bytes]:
    """A stream's frames: one word each; the last has the finish reason, the usage if requested, and [DONE]."""
    choices = [
        {"index": 0, "delta": {"content": f" word{number:02}"}, "logprobs": None, "finish_reason": None}
        for number in range(CHUNKS)
    ]
    words = [_frame({"choices": [choice]}) for choice in choices]
    end = _frame({"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]})
    counted = {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS}
    return [*words, end + (_frame({"choices": [], "usage": counted}) if usage else b"") + b"data: [DONE]\n\n"]


def completion_body() -> bytes:
    """The body of a non-streamed completion."""
    content = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 64}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS},
    }  # fmt: skip
    return json.dumps(content).encode()


def _json_response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Responses:
    """All responses as HTTP bytes, built once."""

    def __init__(self) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.streams: dict[bool, list[bytes]] = {}
        for usage in (False, True):
            pieces = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames(usage)]
            self.streams[usage] = [head + pieces[0], *pieces[1:-1], pieces[-1] + b"0\r\n\r\n"]
        self.whole = _json_response(completion_body())
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]}
        self.models = _json_response(json.dumps(listed).encode())
        self.anything = _json_response(b'{"status":"ok"}')


class Mock(asyncio.Protocol):
    """One connection. httptools calls the `on_…` methods."""

    def __init__(self, responses: Responses, loop: asyncio.AbstractEventLoop) -> None:
        self._responses = responses
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._path, self._body = b"", []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transport does not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport:
                self._transport.close()

    def on_message_begin(self) -> None:
        self._path, self._body = b"", []

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._transport is None:
            return
        if self._path.endswith(b"/models"):
            self._transport.write(self._responses.models)
        elif not self._path.endswith(b"/completions"):
            self._transport.write(self._responses.anything)
        else:
            body = b"".join(self._body)
            if b'"stream":true' not in body and b'"stream": true' not in body:
                self._transport.write(self._responses.whole)
                return
            usage = b'"include_usage":true' in body or b'"include_usage": true' in body
            self._next(self._responses.streams[usage], 0, self._loop.time())

    def _next(self, pieces: list[bytes], number: int, began: float) -> None:
        if self._transport is None:
            return
        self._transport.write(pieces[number])
        number += 1
        if number < len(pieces):
            # Timed from the stream's start, so that one late chunk does not delay all that follow.
            self._timer = self._loop.call_at(began + number * PACE_S, self._next, pieces, number, began)


async def serve(port: int) -> None:
    """Serves on loopback until killed."""
    loop = asyncio.get_running_loop()
    responses = Responses()
    server = await loop.create_server(lambda: Mock(responses, loop), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
