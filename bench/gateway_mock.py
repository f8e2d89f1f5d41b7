"""The upstream of `bench.gateway`: it answers at once, or streams 64 chunks 10 ms apart, and computes nothing.

    python -m bench.gateway_mock PORT

Every byte that it sends is built before it listens, and a stream is one timer a chunk on uvloop: one core keeps up with
512 streams, which a web framework does not. It looks for two words in a request's body and reads no JSON. It knows
no gateway and measures nothing.
"""

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

MODEL = "mock"
CHUNKS, PACE_S = 64, 0.010
WORD = b'" word'  # once in each frame, whatever a proxy makes of the rest


def _frame(content: dict[str, object]) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: " + json.dumps(head | content, separators=(",", ":")).encode() + b"\n\n"


def frames(usage: bool) -> list[bytes]:
    """A stream's frames: one word each, the end, the usage where it was asked for, and [DONE] with the last."""
    choices = [
        {"index": 0, "delta": {"content": f" word{number:02}"}, "logprobs": None, "finish_reason": None}
        for number in range(CHUNKS)
    ]
    found = [_frame({"choices": [choice]}) for choice in choices]
    end = _frame({"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]})
    counted = {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS}
    return [*found, end + (_frame({"choices": [], "usage": counted}) if usage else b"") + b"data: [DONE]\n\n"]


def whole() -> bytes:
    """A whole answer."""
    content = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 64}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": CHUNKS, "total_tokens": 9 + CHUNKS},
    }  # fmt: skip
    return json.dumps(content).encode()


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Answers:
    """What the mock can send, built once: HTTP as it goes over the wire."""

    def __init__(self) -> None:
        head = (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.streams: dict[bool, list[bytes]] = {}
        for usage in (False, True):
            pieces = [b"%x\r\n%b\r\n" % (len(frame), frame) for frame in frames(usage)]
            self.streams[usage] = [head + pieces[0], *pieces[1:-1], pieces[-1] + b"0\r\n\r\n"]
        self.whole = _answer(whole())
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "bench"}]}
        self.models = _answer(json.dumps(listed).encode())
        self.anything = _answer(b'{"status":"ok"}')


class Mock(asyncio.Protocol):
    """One connection. httptools calls the `on_…` methods while it is fed."""

    def __init__(self, answers: Answers, loop: asyncio.AbstractEventLoop) -> None:
        self._answers = answers
        self._loop = loop
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._path, self._body = b"", []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own does not inherit from it

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
            self._transport.write(self._answers.models)
        elif not self._path.endswith(b"/completions"):
            self._transport.write(self._answers.anything)
        else:
            body = b"".join(self._body)
            if b'"stream":true' not in body and b'"stream": true' not in body:
                self._transport.write(self._answers.whole)
                return
            usage = b'"include_usage":true' in body or b'"include_usage": true' in body
            self._next(self._answers.streams[usage], 0, self._loop.time())

    def _next(self, pieces: list[bytes], number: int, began: float) -> None:
        if self._transport is None:
            return
        self._transport.write(pieces[number])
        number += 1
        if number < len(pieces):
            # From the beginning, not from the last piece: a stream that was late once does not stay so.
            self._timer = self._loop.call_at(began + number * PACE_S, self._next, pieces, number, began)


async def serve(port: int) -> None:
    """Listens on loopback until it is killed."""
    loop = asyncio.get_running_loop()
    answers = Answers()
    server = await loop.create_server(lambda: Mock(answers, loop), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
