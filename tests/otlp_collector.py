"""An OTLP receiver on a real socket: keeps what OpenTelemetry's exporters send."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Collector:
    """An OTLP receiver: keeps the bodies of requests by path."""

    def __init__(self) -> None:
        collector = self
        self.bodies: dict[str, list[bytes]] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert "content-encoding" not in self.headers
                collector.bodies.setdefault(self.path, []).append(body)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A running collector."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.server.shutdown()
        collector.server.server_close()


def values(attributes: Any) -> dict[str, Any]:
    """OTLP's attributes as a dict."""
    read = {}
    for each in attributes:
        kind = each.value.WhichOneof("value")
        read[each.key] = getattr(each.value, kind)
    return read
