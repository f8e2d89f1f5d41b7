"""How an answer looks: headers, OpenAI's error body, JSON. Plain ASGI; it knows no route and no model."""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from models.errors import ParleyError
from models.keys import KeyInfo
from serve.transport.request_cycle import Cycle

if TYPE_CHECKING:
    from serve.accounting.rate_limits import Admission

Scope = MutableMapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
TEXT = b"text/plain; version=0.0.4; charset=utf-8"


class Exchange:
    """One request being answered: its number, its clock, how far the answer is, and what it comes to.

    `extra` goes out with whatever answer or error follows. What follows `model` is for the ledger, and is filled in on
    the way: it finds at the end what is known by then.
    """

    # Most of these stay as they are: what the class says costs a request nothing.
    status = 0
    finished = False
    gone = False  # the client
    asked = False  # it has gone on to an engine or an upstream
    model = ""
    key: "KeyInfo | None" = None
    admission: "Admission | None" = None
    prompt_bytes = prompt_tokens = completion_tokens = sent = 0
    stream = False
    events = False  # it is a stream of /v1/responses
    first_s: float | None = None  # to the first piece of a stream
    fault = ""  # how a stream broke that had begun

    def __init__(self, send: Send) -> None:
        self._send = send
        # Behind our own front `send` is a method of a cycle, which takes bytes too.
        cycle = getattr(send, "__self__", None)
        self._cycle = cycle if type(cycle) is Cycle else None
        self.began = time.perf_counter()
        self.request_id = request_id()
        self.extra: Headers = []

    @property
    def started(self) -> bool:
        """Whether the status line has gone out."""
        return self.status != 0

    def seconds(self) -> float:
        """Seconds since the request came."""
        return time.perf_counter() - self.began

    async def start(self, status: int, content_type: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Sends status and headers."""
        self.status = status
        headers = [
            (b"content-type", content_type),
            (b"x-request-id", self.request_id),
            (b"openai-processing-ms", b"%d" % (self.seconds() * 1000)),
            *self.extra,
            *extra,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def body(self, data: bytes, *, more: bool = False) -> None:
        """Sends a piece of the body; the last one, unless there is more."""
        self.finished = not more
        self.sent += len(data)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def body_here(self) -> bytes | None:
        """The request's whole body, where it is here; None where it has to be received."""
        return self._cycle.body_here() if self._cycle is not None else None

    def piece(self, data: bytes) -> bool:
        """Sends a piece of a stream at once; False where it has to be waited for, by `body`."""
        if self._cycle is None or not self._cycle.send_piece(data):
            return False
        self.sent += len(data)
        return True

    async def whole(
        self, status: int, data: bytes, content_type: bytes = JSON, extra: Iterable[tuple[bytes, bytes]] = ()
    ) -> None:
        """Sends an answer in one go."""
        self.status = status
        self.finished = True
        self.sent += len(data)
        if self._cycle is not None:
            more = [*self.extra, *extra] if extra else self.extra
            lines = b"".join([b"%b: %b\r\n" % pair for pair in more])
            if lines.count(b"\n") == lines.count(b"\r") == len(more) and self._cycle.send_whole(
                status,
                b"content-type: %b\r\nx-request-id: %b\r\nopenai-processing-ms: %d\r\n%b"
                % (content_type, self.request_id, self.seconds() * 1000, lines),
                data,
            ):
                return
        headers = [
            (b"content-type", content_type),
            (b"x-request-id", self.request_id),
            (b"openai-processing-ms", b"%d" % (self.seconds() * 1000)),
            (b"content-length", b"%d" % len(data)),
            *self.extra,
            *extra,
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data, "more_body": False})

    async def json(self, content: Any, status: int = 200) -> None:
        """Sends JSON."""
        await self.whole(status, orjson.dumps(content))

    async def error(self, error: ParleyError) -> None:
        """Answers with an error: in a stream that has begun an error frame that ends it, after its end nothing."""
        if self.finished:
            return
        if self.started:
            await self.broke(error.body()["error"])
        else:
            await self.whole(error.status, orjson.dumps(error.body()), extra=error_headers(error))

    async def broke(self, error: Mapping[str, Any]) -> None:
        """Ends a stream that has begun with an error frame."""
        self.fault = "broken"
        await self.body(error_event(error) if self.events else error_frame(error))

    def wrapped(self) -> Send:
        """A `send` for a mounted application: it adds this exchange's headers to the application's own."""

        async def send(message: ASGIMessage) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
                headers += [
                    (b"x-request-id", self.request_id),
                    (b"openai-processing-ms", b"%d" % (self.seconds() * 1000)),
                    *self.extra,
                ]
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                self.finished = not message.get("more_body", False)
                self.sent += len(message.get("body", b""))
            await self._send(message)

        return send


def error_headers(error: ParleyError) -> Headers:
    """The error's own; and what tells the SDK when to come back, or not to, where a repeat cannot help."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in error.headers.items()]
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after))))
    elif error.status >= 409:
        headers.append((b"x-should-retry", b"false"))
    return headers


def raw_error(error: ParleyError) -> bytes:
    """An error as a whole HTTP answer that ends its connection, for what was no request that could be answered."""
    data = orjson.dumps(error.body())
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nx-request-id: %s\r\nopenai-processing-ms: 0\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s"
    ) % (error.status, HTTPStatus(error.status).phrase.encode(), request_id(), len(data), data)


def _request_ids() -> Iterator[bytes]:
    """128 random bits each, drawn a hundred at a time: asking the kernel for so few costs as much as for many."""
    while True:
        drawn = os.urandom(1600).hex().encode()
        for start in range(0, len(drawn), 32):
            yield b"req_" + drawn[start : start + 32]


# Each call gives the number of one request, that no other has.
request_id: Callable[[], bytes] = _request_ids().__next__


def error_frame(error: Mapping[str, Any]) -> bytes:
    """An error in a stream: the SDK raises it. No [DONE] follows."""
    return b"data: " + orjson.dumps({"error": error}) + b"\n\n"


def error_event(error: Mapping[str, Any]) -> bytes:
    """The same in a stream of /v1/responses: OpenAI's own `error` event, with what makes the SDK raise it."""
    told = {**error, "type": "error", "sequence_number": 0, "error": error}
    return b"event: error\ndata: " + orjson.dumps(told) + b"\n\n"


def openai_error(content: Any, status: int) -> dict[str, Any]:
    """An upstream's error in OpenAI's shape: a message, a type, param and code as strings or null."""
    inner = content.get("error", content) if isinstance(content, dict) else None
    if isinstance(inner, str):
        inner = {"message": inner}
    if not isinstance(inner, dict):
        inner = {}
    message = inner.get("message") or inner.get("detail") or f"The model's server answered with status {status}."
    kind = "invalid_request_error" if status < 500 else "server_error"
    code, param = inner.get("code"), inner.get("param")
    return {
        "message": message if isinstance(message, str) else orjson.dumps(message).decode(),
        "type": "rate_limit_error" if status == 429 else kind,
        "param": param.removeprefix("body.") if isinstance(param, str) else None,
        # vLLM puts the status there, which no client of OpenAI's expects.
        "code": code if isinstance(code, str) and not code.isdigit() else None,
    }


def header(scope: Scope, name: bytes) -> bytes | None:
    """A request's header by its lower-case name."""
    for key, value in scope["headers"]:
        if key == name:
            return value
    return None
