"""More connections than file descriptors: idle ones make room, and no running answer is cut off."""

import contextlib
import gc
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest

import serve.gateway.server
from models.database import Database
from models.settings.settings import load_settings
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream

MOST = 40
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
# What slow clients have sent: nothing, half a head, half a body.
BEGINNINGS = (b"", HEAD, HEAD + b"content-length: 100\r\n\r\n{")


@pytest.fixture
def narrow(
    database: Database, home: Path, upstream: PacedUpstream, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serving]:
    """A gateway with room for few clients."""
    monkeypatch.setattr(serve.gateway.server, "max_connections", lambda: MOST)
    with serving(load_settings(home=home), database) as gateway:
        gateway.hosted("whole", base_url=f"{upstream.address}/v1")
        yield gateway


@pytest.mark.long
def test_slow_clients_without_number_keep_nobody_out(narrow: Serving, upstream: PacedUpstream) -> None:
    upstream.chunks, upstream.pace_s = 20, 0.1
    client = openai.OpenAI(base_url=narrow.base_url, api_key="any", max_retries=0, timeout=10)
    with contextlib.ExitStack() as kept:
        kept.callback(setattr, upstream, "pace_s", 0.0)
        running = client.chat.completions.create(
            model="whole", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        slow = [kept.enter_context(contextlib.closing(connect(narrow))) for _ in range(4 * MOST)]
        for number, connection in enumerate(slow):
            with contextlib.suppress(OSError):
                connection.sendall(BEGINNINGS[number % 3])
        upstream.pace_s = 0.0
        for _ in range(5):
            with contextlib.closing(connect(narrow)) as fresh:
                body = json.dumps({"model": "whole", "messages": [{"role": "user", "content": "hello"}]}).encode()
                fresh.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                assert read_all(fresh).startswith(b"HTTP/1.1 200")
        assert sum(bool(chunk.choices) for chunk in running) == 20
        assert connections(narrow) <= MOST


@pytest.mark.long
def test_a_connection_that_has_ended_leaves_nothing_for_the_collector(
    gateway: Serving, upstream: PacedUpstream
) -> None:
    gateway.hosted("whole", "breaks", base_url=f"{upstream.address}/v1")
    gateway.engine("engine", gateway.settings.home / "weights", upstream.address)

    def ask() -> None:
        for model in ("whole", "breaks", "engine"):
            for stream in (True, False):
                with contextlib.closing(connect(gateway)) as fresh:
                    messages = [{"role": "user", "content": "hello"}]
                    body = json.dumps({"model": model, "messages": messages, "stream": stream}).encode()
                    fresh.sendall(HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                    assert read_all(fresh).startswith(b"HTTP/1.1 ")

    def held() -> int:
        return sum(type(item).__name__ in ("Front", "Cycle", "Exchange") for item in gc.get_objects())

    ask()
    time.sleep(0.5)  # one task looks at listeners a few times a second
    gc.collect()
    before = held()
    gc.disable()
    try:
        for _ in range(5):
            ask()
        time.sleep(0.5)
        assert held() <= before
    finally:
        gc.enable()


def connect(gateway: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", gateway.port), timeout=10)


def connections(gateway: Serving) -> int:
    """The number of the gateway's clients."""
    time.sleep(0.2)
    open_connections = psutil.Process().net_connections("tcp")
    return sum(
        connection.laddr.port == gateway.port and connection.status == psutil.CONN_ESTABLISHED
        for connection in open_connections
    )


def read_all(raw: socket.socket) -> bytes:
    data = b""
    while piece := raw.recv(65536):
        data += piece
    return data
