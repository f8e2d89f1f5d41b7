"""Connections from clients: strict HTTP/1.1, parsed by httptools and handed on as ASGI. It knows no route.

Used instead of uvicorn's own protocol class, which takes twice the time per request, does not limit the size of a
request head or the time to receive it, and answers invalid HTTP in plain text. Sockets, signals, the lifespan and the
order of a shutdown stay uvicorn's.
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
from serve.transport.asgi import Headers, Scope
from serve.transport.error_responses import raw_error
from serve.transport.request_cycle import MAX_BUFFERED_BYTES, RequestResponseCycle

_MAX_HEAD_BYTES, _MAX_HEADERS = 2**16, 256
_MAX_OVERHEAD_BYTES = 2**20  # bytes of a chunked request that are not body: chunk sizes, extensions, trailers
_HEAD_TIMEOUT_S, _BODY_TIMEOUT_S, _IDLE_TIMEOUT_S, _WRITE_TIMEOUT_S, _DISCARD_TIMEOUT_S = 20.0, 60.0, 75.0, 300.0, 10.0
_ASGI = MappingProxyType({"version": "3.0", "spec_version": "2.3"})
_UPGRADE_HEADERS = frozenset({b"connection", b"upgrade", b"http2-settings"})
_WRITE_BUFFER_BYTES = 2**16  # unsent response bytes before the application has to wait
_DROP_DIVISOR = 16  # over the connection limit, one in so many waiting connections is closed
_log = logging.getLogger("parley.gateway")


class RequestHeadTooLarge(ParleyError):
    """The request head has more or longer headers than any OpenAI client sends."""

    status = 431
    kind = "invalid_request_error"


class RequestTimeout(ParleyError):
    """The request did not arrive in time."""

    status = 408
    kind = "invalid_request_error"


class HTTPProtocol(asyncio.Protocol):
    """A client connection. uvicorn creates it and calls `shutdown`; httptools calls the `on_…` methods."""

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
        self._connection_limit = config.limit_concurrency
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._client: tuple[str, int] | None = None
        self._server: tuple[str, int] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._next_cycle: RequestResponseCycle | None = None  # the cycle to answer next
        self._idle_waiter: asyncio.Future[None] | None = None  # pending while there is no next cycle
        self._reading = True
        self._ignores_input = False  # further input is not parsed
        self._discarding_body = False  # answered; the connection closes after the rest of the request body
        self._default_lines: tuple[Headers, bytes] = [], b""
        self._url = b""
        self._headers: Headers = []
        self._head_bytes = 0
        self._overhead_bytes = 0
        self._read_bytes = 0  # bytes of the current read
        self._in_head = False
        self._awaits_100 = False
        self._current: RequestResponseCycle | None = None  # the cycle being answered
        self._receiving: RequestResponseCycle | None = None  # the cycle whose body is arriving
        self._pipelined: deque[RequestResponseCycle] = deque()
        self._waiting_since = self._loop.time()  # when the current wait began

    # Called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_WRITE_BUFFER_BYTES)
        self._client = _address(transport.get_extra_info("peername"))
        self._server = _address(transport.get_extra_info("sockname"))
        self.state.connections.add(cast(Any, self))
        if self._connection_limit is not None and len(self.state.connections) > self._connection_limit:
            self._drop_waiting_connections()

    def connection_lost(self, exc: Exception | None) -> None:
        self.state.connections.discard(cast(Any, self))
        self._transport = None
        # Breaks a reference cycle: otherwise each connection keeps some KiB until a full garbage collection.
        self._parser = cast(Any, None)
        self._pipelined.clear()
        for cycle in (self._current, self._receiving):
            if cycle is not None and not cycle.complete:
                cycle.on_disconnect()
        self._current = self._receiving = None
        self.resume_writing()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            return
        if not (self._in_head or self._discarding_body):
            self._waiting_since = self._loop.time()
        self._read_bytes = len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # The parser raises its own error over that of a callback.
            cause = error.__context__
            self._reject(
                cause if isinstance(cause, ParleyError) else Invalid(f"This is not a valid HTTP request: {error}.")
            )
        else:
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > _MAX_HEAD_BYTES:
                    self._reject(_head_too_large())
            elif self._receiving is not None:
                self._overhead_bytes += len(data)
                if self._overhead_bytes > _MAX_OVERHEAD_BYTES:
                    self._reject(Invalid("The request's chunks carry too little body."))

    def pause_writing(self) -> None:
        self.write_paused = True
        self._waiting_since = self._loop.time()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # Called by httptools

    def on_message_begin(self) -> None:
        self._url, self._headers, self._in_head, self._awaits_100 = b"", [], True, False
        self._head_bytes = self._overhead_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # Trailers are ignored, so that none can pass for a header.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self._awaits_100 = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser, url, headers = self._parser, self._url, self._headers
        if parser.should_upgrade():
            return  # The parser expects another protocol from here on: see `data_received`.
        # Most heads are short and arrive in one piece.
        if len(headers) > _MAX_HEADERS or (
            self._head_bytes + self._read_bytes > _MAX_HEAD_BYTES
            and len(url) + sum([len(name) + len(value) for name, value in headers]) > _MAX_HEAD_BYTES
        ):
            raise _head_too_large()
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
        cycle = self._receiving = RequestResponseCycle(self, scope, keep_alive=keep, awaits_100=self._awaits_100)
        if self._current is None:
            self._start_cycle(cycle)
        else:
            self._pipelined.append(cycle)
            self._pause_reading()

    def on_body(self, body: bytes) -> None:
        self._overhead_bytes -= len(body)
        cycle = self._receiving
        if cycle is None or cycle.complete:
            return
        cycle.on_body(body)
        if cycle.buffered_bytes > MAX_BUFFERED_BYTES:
            self._pause_reading()

    def on_message_complete(self) -> None:
        if self._receiving is not None:
            self._receiving.on_complete()
            self._receiving = None
            if self._discarding_body:
                self.close()

    # Called by a cycle

    @property
    def default_headers(self) -> Headers:
        """uvicorn's headers for every response: the date, renewed each second."""
        return self.state.default_headers

    def default_header_lines(self) -> bytes:
        """The same as bytes, built once a second."""
        if self._default_lines[0] is not self.state.default_headers:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in self.state.default_headers])
            self._default_lines = self.state.default_headers, lines
        return self._default_lines[1]

    def write(self, data: bytes) -> None:
        """Writes to the client if it is still connected."""
        if self._transport is not None:
            self._transport.write(data)

    async def wait_writable(self) -> None:
        """Returns once the client has read most of what was written, or has disconnected."""
        while self.write_paused:
            self._writable = self._loop.create_future()
            await self._writable

    def resume_reading(self) -> None:
        """Reads again: the application wants more of the body, or to notice a disconnect."""
        if not self._reading and self._transport is not None and not self._pipelined:
            self._reading = True
            self._waiting_since = self._loop.time()
            self._transport.resume_reading()

    def on_response_complete(self, cycle: RequestResponseCycle) -> None:
        """Goes on after a cycle's response: with the next request, or by closing the connection."""
        self.state.total_requests += 1
        self._current = None
        self._waiting_since = self._loop.time()
        if not cycle.keep_alive or self.stopping:
            self._pipelined.clear()
            # The unread body is discarded first: closing a socket with unread bytes can destroy the response in
            # transit.
            if not cycle.receiving:
                self.close()
            else:
                self._discarding_body = True
                self.resume_reading()
        elif self._pipelined:
            self._start_cycle(self._pipelined.popleft())
        else:
            self.resume_reading()

    # Called by uvicorn and by our server

    def shutdown(self) -> None:
        """Takes no more requests; a running one is answered first."""
        self.stopping = True
        self._pipelined.clear()
        if self._current is None:
            self.close()

    def check_timeouts(self, now: float) -> None:
        """Ends the connection if a wait took too long: for a head, a body, the next request, or a slow reader."""
        waited = now - self._waiting_since
        if self.write_paused:
            if waited > _WRITE_TIMEOUT_S and self._transport is not None:
                self._transport.abort()
        elif self._discarding_body:
            if waited > _DISCARD_TIMEOUT_S:
                self.close()
        elif self._in_head:
            if waited > _HEAD_TIMEOUT_S:
                self._reject(RequestTimeout("The request head was not complete in time."))
        elif self._receiving is not None and self._reading:
            if waited > _BODY_TIMEOUT_S:
                self._reject(RequestTimeout("The request body was not complete in time."))
        elif self._current is None and waited > _IDLE_TIMEOUT_S:
            self.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self.state.connections.discard(cast(Any, self))
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection after everything written has been sent."""
        if self._transport is not None:
            self._transport.close()

    # Internal

    def _start_cycle(self, cycle: RequestResponseCycle) -> None:
        self._current = self._next_cycle = cycle
        if self._task is None:
            self._task = self._loop.create_task(self._run_cycles())
            self.state.tasks.add(self._task)
        else:
            self._wake()

    async def _run_cycles(self) -> None:
        """One task for all requests of a connection, because creating a task per request is the largest single cost."""
        try:
            while self._transport is not None:
                cycle, self._next_cycle = self._next_cycle, None
                if cycle is None:
                    self._idle_waiter = self._loop.create_future()
                    await self._idle_waiter
                else:
                    await self._run_cycle(cycle)
        finally:
            self.state.tasks.discard(cast(Any, self._task))

    async def _run_cycle(self, cycle: RequestResponseCycle) -> None:
        try:
            await self._app(cycle.scope, cycle.receive, cycle.send)
        except BaseException:
            _log.exception("a request failed")
        finally:
            if self._transport is not None and not (cycle.complete or cycle.disconnected):
                # A partial response must not look complete.
                self._transport.abort()

    def _wake(self) -> None:
        if self._idle_waiter is not None and not self._idle_waiter.done():
            self._idle_waiter.set_result(None)

    def _drop_waiting_connections(self) -> None:
        """Closes connections that wait for their client, the longest waiting first, because there are too many."""
        connections = [cast(HTTPProtocol, connection) for connection in self.state.connections]
        waiting = [
            connection for connection in connections if connection._current is None or connection._receiving is not None
        ]
        waiting.sort(key=lambda connection: connection._waiting_since)
        # Several at once, so that not every new connection has to scan all others.
        for connection in waiting[: max(len(waiting) // _DROP_DIVISOR, 1)]:
            connection.abort()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None:
            self._reading = False
            self._transport.pause_reading()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Handles a request that offers another protocol as one that does not (Java's client offers h2c with each)."""
        method = self._parser.get_method()
        if method == b"CONNECT":
            self._reject(Invalid("The method CONNECT is not supported."))
            return
        headers = [pair for pair in self._headers if pair[0] not in _UPGRADE_HEADERS]
        head = b"".join([b"%b: %b\r\n" % pair for pair in headers])
        self._parser = httptools.HttpRequestParser(self)
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self._url, head, rest))

    def _close_after_response(self) -> None:
        """Reads nothing more; closes the connection after the running request's response."""
        self._in_head, self._ignores_input = False, True
        self._pipelined.clear()
        if self._current is None:
            self.close()
        else:
            self._current.keep_alive = False

    def _reject(self, error: ParleyError) -> None:
        """Answers invalid input with an error, unless another response is being sent, and closes the connection."""
        receiving, self._receiving = self._receiving, None
        if receiving is not None and not receiving.complete:
            receiving.on_disconnect()
        if self._current is not None and self._current is not receiving:
            self._close_after_response()
            return
        if receiving is None or not receiving.started:
            self.write(raw_error(error))
        self._in_head, self._ignores_input = False, True
        self.close()


def _address(name: Any) -> tuple[str, int] | None:
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None


def _head_too_large() -> RequestHeadTooLarge:
    return RequestHeadTooLarge(
        f"The request head is larger than {_MAX_HEAD_BYTES // 1024} KiB, or has over {_MAX_HEADERS} headers."
    )
