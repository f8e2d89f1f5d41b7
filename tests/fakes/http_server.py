"""The base of all fakes: a threaded HTTP/1.1 server with routes by pattern, a key, and faults on demand.

It uses only the standard library, so that a fake runs in any Python environment.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Request:
    """One request. `path` is decoded and has no query; `form` is filled for multipart bodies."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    form: dict[str, Any] = field(default_factory=dict)

    def json(self) -> dict[str, Any]:
        """The body as JSON; empty without a body."""
        return json.loads(self.body or b"{}")


@dataclass(frozen=True)
class Reply:
    """What goes back: a dict as JSON, bytes as they are, or an iterator of bytes as a stream."""

    content: dict[str, Any] | bytes | Iterator[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refusal(Exception):
    """An error in the provider's own shape; `headers` go with it."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.reply = Reply(body, status, headers or {})


@dataclass
class Fault:
    """Something that goes wrong, `times` times, for requests that match.

    Kinds: `status` answers with an error and does nothing; `cut_before` drops the connection before the work,
    `cut_after` after it, so that it was done and nobody heard.
    """

    method: str
    path: str
    kind: Literal["status", "cut_before", "cut_after"]
    times: int = 1
    reply: Reply | None = None
    skip: int = 0


Handler = Callable[..., Reply | dict[str, Any]]


class FakeServer:
    """A fake, started by `with`; routes are added by a subclass's `routes`."""

    def __init__(self, port: int = 0) -> None:
        self.lock = threading.RLock()
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self._port = port
        self._routes = [(method, re.compile(pattern), handler) for method, pattern, handler in self.routes()]

    def routes(self) -> list[tuple[str, str, Handler]]:
        """(method, pattern of the whole path, handler): groups of the pattern become the handler's arguments."""
        raise NotImplementedError

    def admit(self, request: Request) -> None:
        """Raises Refusal where the key is wrong."""

    def unknown(self, request: Request) -> Reply:
        """What an address answers that there is not."""
        return Reply({"error": {"message": f"Unknown request URL: {request.method} {request.path}"}}, 404)

    def fail(
        self, method: str, path: str, status: int, body: dict[str, Any] | None = None, times: int = 1, **headers: str
    ) -> None:
        """The next `times` matching requests get this error instead; header names have _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        error = body or {"error": {"message": f"fault {status}", "type": "server_error", "param": None, "code": None}}
        self.faults.append(Fault(method, path, "status", times, Reply(error, status, named)))

    def cut(self, method: str, path: str, *, after: bool, times: int = 1, skip: int = 0) -> None:
        """The next matching requests (but for the first `skip`) lose their connection, before or after the work."""
        self.faults.append(Fault(method, path, "cut_after" if after else "cut_before", times, skip=skip))

    def count(self, method: str, path: str) -> int:
        """How often a path was asked for."""
        return sum(1 for one in self.requests if one.method == method and re.fullmatch(path, one.path))

    def __enter__(self) -> Any:
        owner = self

        class Bound(_Handler):
            fake = owner

        self._server = _Server(("127.0.0.1", self._port), Bound)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self) -> None:
        """Serves until Ctrl-C."""
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return

    def answer(self, request: Request) -> Reply | None:
        """The reply to a request; None where the connection is to be dropped."""
        with self.lock:
            self.requests.append(request)
            fault = self._fault(request)
            if fault and fault.kind == "cut_before":
                return None
            if fault and fault.kind == "status":
                return fault.reply
            try:
                self.admit(request)
                reply = self._dispatch(request)
            except Refusal as refusal:
                reply = refusal.reply
            return None if fault else reply

    def _dispatch(self, request: Request) -> Reply:
        for method, pattern, handler in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                reply = handler(request, *match.groups())
                return reply if isinstance(reply, Reply) else Reply(reply)
        return self.unknown(request)

    def _fault(self, request: Request) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == request.method and re.fullmatch(fault.path, request.path):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for a delayed ACK
    fake: FakeServer

    def _any(self) -> None:
        split = urlsplit(self.path)
        body = self._body()
        headers = {name.lower(): value for name, value in self.headers.items()}
        kind = headers.get("content-type", "")
        form = _form(kind, body) if kind.startswith("multipart/form-data") else {}
        path, query = unquote(split.path), dict(parse_qsl(split.query, keep_blank_values=True))
        reply = self.fake.answer(Request(self.command, path, query, headers, body, form))
        if reply is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._send(reply)

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in ({"x-request-id": "req_fake"} | reply.headers).items():
            self.send_header(name, value)
        if isinstance(reply.content, dict | bytes):
            data = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
            if "content-type" not in reply.headers:
                self.send_header(
                    "content-type",
                    "application/json" if isinstance(reply.content, dict) else "application/octet-stream",
                )
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for chunk in reply.content:
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:  # a client that was killed, or a stream that breaks
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class calls it so
        return


def _form(content_type: str, body: bytes) -> dict[str, Any]:
    """A multipart form: text fields as text, a file as (filename, bytes)."""
    boundary = content_type.split("boundary=", 1)[1].split(";")[0].strip('"').encode()
    form: dict[str, Any] = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        content = content.removesuffix(b"\r\n")
        named = dict(re.findall(r'(\w+)="([^"]*)"', head.decode()))
        form[named["name"]] = (named["filename"], content) if "filename" in named else content.decode()
    return form
