"""Connections from clients: HTTP/1.1 parsed by httptools, strictly, and handed on as ASGI. It knows no route.

It stands in the place of uvicorn's own protocol class, whose share of a request was twice this one's, which has no
limit to a request's head and no end to the wait for one, and which answers what is no HTTP in plain text. Sockets,
signals, the lifespan and the order of a shutdown stay uvicorn's.
"""

import asyncio
import logging
from collections import deque
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from uvicorn.server import ServerState

from models.errors import Invalid, ParleyError
from serve.transport import responses
from serve.transport.request_cycle import BUFFERED, Cycle
from serve.transport.responses import Scope

_HEAD_BYTES, _HEADERS = 2**16, 256
_AROUND_BYTES = 2**20  # of a chunked body that are not body: sizes, extensions, trailers
_HEAD_S, _BODY_S, _IDLE_S, _STALLED_S, _LINGER_S = 20.0, 60.0, 75.0, 300.0, 10.0
_ASGI = MappingProxyType({"version": "3.0", "spec_version": "2.3"})
_UPGRADING = frozenset({b"connection", b"upgrade", b"http2-settings"})
_WRITTEN = 2**16  # bytes that wait for a slow client before the application is told to wait
_ROOM = 16  # where there are too many connections, one of so many that wait is ended
_log = logging.getLogger("parley.gateway")


class HeadTooLarge(ParleyError):
    """More headers, or longer ones, than any client of OpenAI's sends."""

    status = 431
    kind = "invalid_request_error"


class TooSlow(ParleyError):
    """A request that does not come to its end."""

    status = 408
    kind = "invalid_request_error"


class Front(asyncio.Protocol):
    """One connection of a client. uvicorn makes them, and calls `shutdown`; httptools calls the `on_…` methods."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.state = server_state
        self.stopping = False
        self.write_paused = False
        self._app = cast(Any, config.loaded_app)
        self._most = config.limit_concurrency
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._work: asyncio.Task[None] | None = None
        self._todo: Cycle | None = None  # what it answers next
        self._rest: asyncio.Future[None] | None = None  # where it waits for that
        self._reading = True
        self._deaf = False  # what still comes in is no request
        self._lingers = False  # answered, and to be closed once the rest of a body has been thrown away
        self._usual: tuple[responses.Headers, bytes] = [], b""
        self._url = b""
        self._headers: responses.Headers = []
        self._head_bytes = 0
        self._around = 0
        self._piece = 0  # bytes of the piece that is being read
        self._in_head = False
        self._awaits_100 = False
        self._cycle: Cycle | None = None  # the one being answered
        self._coming: Cycle | None = None  # the one whose body comes in
        self._next: deque[Cycle] = deque()
        self._since = self._loop.time()  # this connection waits for what it waits for

    # asyncio's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_WRITTEN)
        self._client = _place(transport.get_extra_info("peername"))
        self._server = _place(transport.get_extra_info("sockname"))
        self.state.connections.add(cast(Any, self))
        if self._most is not None and len(self.state.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state.connections.discard(cast(Any, self))
        self._transport = None
        # The two hold one another: without this each connection waits for a full collection, some KiB of it.
        self._parser = cast(Any, None)
        self._next.clear()
        for cycle in (self._cycle, self._coming):
            if cycle is not None and not cycle.complete:
                cycle.gone()
        self._cycle = self._coming = None
        self.resume_writing()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if not (self._in_head or self._lingers):
            self._since = self._loop.time()
        self._piece = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._as_if_not_asked_to_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # The parser hides what a callback raised behind its own error.
            told = error.__context__
            self._refuse(told if isinstance(told, ParleyError) else Invalid(f"This is no HTTP request: {error}."))
        else:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > _HEAD_BYTES:
                    self._refuse(_too_large())
            elif self._coming is not None:
                self._around += len(data)
                if self._around > _AROUND_BYTES:
                    self._refuse(Invalid("The chunks of the request's body are mostly no body."))

    def pause_writing(self) -> None:
        self.write_paused = True
        self._since = self._loop.time()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # httptools' calls

    def on_message_begin(self) -> None:
        self._url, self._headers, self._in_head, self._awaits_100 = b"", [], True, False
        self._head_bytes = self._around = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: nobody reads them, and none shall pass for a header
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._awaits_100 = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser, url, headers = self._parser, self._url, self._headers
        if parser.should_upgrade():
            return  # the parser takes what follows for another protocol: see `data_received`
        # Most heads come in one piece, and a short one.
        if len(headers) > _HEADERS or (
            self._head_bytes + self._piece > _HEAD_BYTES
            and len(url) + sum([len(name) + len(value) for name, value in headers]) > _HEAD_BYTES
        ):
            raise _too_large()
        raw, _, query = url.partition(b"?")
        path = raw.decode("latin-1")
        version = parser.get_http_version()
        scope: Scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("latin-1"),
            "scheme": "http",
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw,
            "query_string": query,
            "root_path": "",
            "headers": headers,
            "client": self._client,
            "server": self._server,
        }
        keep = version == "1.1" and parser.should_keep_alive()
        cycle = self._coming = Cycle(self, scope, keep_alive=keep, awaits_100=self._awaits_100)
        if self._cycle is None:
            self._start(cycle)
        else:
            self._next.append(cycle)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._around -= len(body)
        cycle = self._coming
        if cycle is None or cycle.complete:
            return
        cycle.body(body)
        if cycle.held > BUFFERED:
            self._pause_reading()

    def on_message_complete(self) -> None:
        if self._coming is not None:
            self._coming.whole()
            self._coming = None
            if self._lingers:
                self.close()

    # a cycle's calls

    def usual(self) -> bytes:
        """The header lines of every answer: the date, which uvicorn makes anew each second."""
        if self._usual[0] is not self.state.default_headers:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in self.state.default_headers])
            self._usual = self.state.default_headers, lines
        return self._usual[1]

    def write(self, data: bytes) -> None:
        """To the client, as far as there is one."""
        if self._transport is not None:
            self._transport.write(data)

    async def writable(self) -> None:
        """Returns once the client has read most of what was written, or has gone."""
        while self.write_paused:
            self._writable = self._loop.create_future()
            await self._writable

    def resume_reading(self) -> None:
        """The application wants more of the request's body, or to know when the client goes."""
        if not self._reading and self._transport is not None and not self._next:
            self._reading = True
            self._since = self._loop.time()
            self._transport.resume_reading()

    def answered(self, cycle: Cycle) -> None:
        """A cycle's answer is written."""
        self.state.total_requests += 1
        self._cycle = None
        self._since = self._loop.time()
        if not cycle.keep_alive or self.stopping:
            self._next.clear()
            # What was not read of a body is thrown away first: a close with bytes unread takes the answer along.
            if not cycle.more:
                self.close()
            else:
                self._lingers = True
                self.resume_reading()
        elif self._next:
            self._start(self._next.popleft())
        else:
            self.resume_reading()

    # uvicorn's call, and the server's

    def shutdown(self) -> None:
        """Takes no more requests; the one that runs is answered first."""
        self.stopping = True
        self._next.clear()
        if self._cycle is None:
            self.close()

    def sweep(self, now: float) -> None:
        """Ends what has waited too long: for a request's head or body, for the next request, for a reader."""
        waited = now - self._since
        if self.write_paused:
            if waited > _STALLED_S and self._transport is not None:
                self._transport.abort()
        elif self._lingers:
            if waited > _LINGER_S:
                self.close()
        elif self._in_head:
            if waited > _HEAD_S:
                self._refuse(TooSlow("The request's head did not come to its end."))
        elif self._coming is not None and self._reading:
            if waited > _BODY_S:
                self._refuse(TooSlow("The request's body did not come to its end."))
        elif self._cycle is None and waited > _IDLE_S:
            self.close()

    def abort(self) -> None:
        """At once."""
        self.state.connections.discard(cast(Any, self))
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Once what was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    # inside

    def _start(self, cycle: Cycle) -> None:
        self._cycle = self._todo = cycle
        if self._work is None:
            self._work = self._loop.create_task(self._answer_all())
            self.state.tasks.add(self._work)
        else:
            self._wake()

    async def _answer_all(self) -> None:
        """One task for all requests of a connection: another one for each would cost more than this one's rest."""
        try:
            while self._transport is not None:
                cycle, self._todo = self._todo, None
                if cycle is None:
                    self._rest = self._loop.create_future()
                    await self._rest
                else:
                    await self._answer(cycle)
        finally:
            self.state.tasks.discard(cast(Any, self._work))

    async def _answer(self, cycle: Cycle) -> None:
        try:
            await self._app(cycle.scope, cycle.receive, cycle.send)
        except BaseException:
            _log.exception("a request broke")
        finally:
            if self._transport is not None and not (cycle.complete or cycle.disconnected):
                # A half answer must not look whole.
                self._transport.abort()

    def _wake(self) -> None:
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    def _make_room(self) -> None:
        """Ends connections that wait for what a client has not sent, the longest first: there are too many."""
        everybody = [cast(Front, one) for one in self.state.connections]
        waiting = [one for one in everybody if one._cycle is None or one._coming is not None]
        waiting.sort(key=lambda one: one._since)
        # Several at once, so that this look at all of them is not every newcomer's.
        for one in waiting[: max(len(waiting) // _ROOM, 1)]:
            one.abort()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _as_if_not_asked_to_upgrade(self, rest: bytes) -> None:
        """Reads a request that offers another protocol (Java's client offers h2c with each) as one that does not."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._refuse(Invalid("CONNECT is not for this server."))
            return
        kept = [pair for pair in self._headers if pair[0] not in _UPGRADING]
        head = b"".join([b"%b: %b\r\n" % pair for pair in kept])
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._url, head, rest))

    def _last(self) -> None:
        """Nothing more is read here; the request that runs is answered, and the connection closed."""
        self._in_head, self._deaf = False, True
        self._next.clear()
        if self._cycle is None:
            self.close()
        else:
            self._cycle.keep_alive = False

    def _refuse(self, error: ParleyError) -> None:
        """Answers what is no request, unless another answer is on its way; and closes."""
        coming, self._coming = self._coming, None
        if coming is not None and not coming.complete:
            coming.gone()
        if self._cycle is not None and self._cycle is not coming:
            self._last()
            return
        if coming is None or not coming.started:
            self.write(responses.raw_error(error))
        self._in_head, self._deaf = False, True
        self.close()


def _place(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(f"The request's head is larger than {_HEAD_BYTES // 1024} KiB, or has over {_HEADERS} headers.")
