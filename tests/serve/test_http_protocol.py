"""Client connections, byte by byte on a real socket: HTTP is answered, anything else is refused with JSON."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from serve.transport.http_protocol import HTTPProtocol
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@contextmanager
def connected(gateway: Serving | int) -> Iterator[socket.socket]:
    """A connection to a gateway of this process, or to a port."""
    port = gateway if isinstance(gateway, int) else gateway.port
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        yield raw


def read(raw: socket.socket, answers: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    """That many responses, each with a length; fewer if the connection ends."""
    responses, data = [], b""
    while len(responses) < answers:
        head, mark, rest = data.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
        if mark and lines[0].startswith("HTTP/1.1 100"):
            data = rest
        elif mark and len(rest) >= int(headers.get("content-length", 0)):
            length = int(headers.get("content-length", 0))
            responses.append((int(lines[0].split()[1]), headers, rest[:length]))
            data = rest[length:]
        elif piece := raw.recv(65536):
            data += piece
        else:
            break
    return responses


def ended(raw: socket.socket) -> bool:
    raw.settimeout(5)
    try:
        return raw.recv(1) == b""
    except ConnectionResetError:
        return True


def chat(model: str, **fields: object) -> bytes:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"not http at all\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\nhost: x\n\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nx: a\x00b\r\n\r\n", 400),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nbig: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nendless: " + b"a" * 200_000, 431),
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 431),
        (b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n", 431),
    ],
)
def test_what_is_no_request_is_refused_as_json_and_ends_the_connection(both: Serving, sent: bytes, status: int) -> None:
    with connected(both) as raw:
        raw.sendall(sent)
        ((got, headers, body),) = read(raw)
        assert got == status
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
        assert headers["x-request-id"].startswith("req_")
        assert headers["openai-processing-ms"] == "0"
        assert headers["connection"] == "close"
        assert ended(raw)


def test_a_malformed_body_is_refused_and_its_request_never_runs(both: Serving, upstream: PacedUpstream) -> None:
    with connected(both) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"
        )
        ((status, _, _),) = read(raw)
        assert status == 400
        assert ended(raw)
    assert upstream.seen.requests == []


def test_a_chunked_body_is_taken_and_its_trailers_are_no_headers(both: Serving, upstream: PacedUpstream) -> None:
    body = chat("engine").partition(b"\r\n\r\n")[2]
    with connected(both) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            + b"%x\r\n%b\r\n0\r\nauthorization: Bearer sneaked\r\n\r\n" % (len(body), body)
        )
        ((status, _, _),) = read(raw)
        assert status == 200
        raw.sendall(GET)
        assert read(raw)[0][0] == 200
    assert upstream.seen.requests == [json.loads(body)]


def test_requests_in_a_row_are_answered_in_their_order(both: Serving) -> None:
    with connected(both) as raw:
        raw.sendall(chat("drips") + GET + b"GET /v1/models/engine HTTP/1.1\r\nhost: x\r\n\r\n")
        first, second, third = read(raw, 3)
        assert (first[0], b"chat.completion" in first[2]) == (200, True)
        assert (second[0], second[2]) == (200, b'{"status":"ok"}')
        assert json.loads(third[2])["id"] == "engine"


def test_byte_by_byte_is_a_request_too(both: Serving) -> None:
    with connected(both) as raw:
        for byte in GET:
            raw.sendall(bytes([byte]))
        assert read(raw)[0][0] == 200


def test_a_client_that_waits_for_the_go_ahead_gets_it_or_the_refusal(both: Serving) -> None:
    head, _, body = chat("engine").partition(b"\r\n\r\n")
    with connected(both) as raw:
        raw.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100 ")
        raw.sendall(body)
        assert read(raw)[0][0] == 200
    with connected(both) as raw:
        raw.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 99999999\r\n\r\n"
        )
        ((status, headers, _),) = read(raw)
        assert (status, headers["connection"]) == (413, "close")


def test_a_body_too_large_is_refused_while_it_still_comes(both: Serving) -> None:
    with connected(both) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n")
        raw.sendall(b"x" * 1_000_000)
        ((status, headers, _),) = read(raw)
        assert (status, headers["connection"]) == (413, "close")


def test_an_old_client_gets_its_stream_without_chunks(both: Serving) -> None:
    request = chat("whole", stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with connected(both) as raw:
        raw.sendall(request)
        data = b""
        while piece := raw.recv(65536):
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body.startswith(b"data: ")
    assert body.endswith(b"data: [DONE]\n\n")


@pytest.mark.long
def test_head_has_no_body_and_keeps_the_connection(both: Serving) -> None:
    with connected(both) as raw:
        raw.sendall(b"HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n")
        time.sleep(0.3)
        assert raw.recv(65536).endswith(b"\r\n\r\n")
        raw.sendall(GET)
        assert read(raw)[0][0] == 200


def test_an_offer_of_another_protocol_is_passed_over(both: Serving, upstream: PacedUpstream) -> None:
    head, _, body = chat("engine").partition(b"\r\n\r\n")
    offer = b"\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n\r\n"
    with connected(both) as raw:
        raw.sendall(head + offer + body[:9])
        time.sleep(0.05)
        raw.sendall(body[9:] + chat("engine"))
        assert [status for status, _, _ in read(raw, 2)] == [200, 200]
    assert upstream.seen.requests == [json.loads(body)] * 2
    with connected(both) as raw:
        raw.sendall(b"CONNECT elsewhere.example:443 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read(raw)[0][0] == 400
        assert ended(raw)


@pytest.mark.long
def test_a_slow_reader_slows_the_upstream(both: Serving, upstream: PacedUpstream) -> None:
    upstream.chunks = 1_000
    with connected(both) as raw:
        raw.sendall(chat("floods", stream=True))
        assert raw.recv(100)
        time.sleep(1)
        # A thousand frames are 100 MB, which the gateway does not hold either.
        assert upstream.seen.written < 300
    assert upstream.seen.somebody_left.wait(5)


def passes(gateway: Serving, seconds: float) -> None:
    """Pretends that this much time has passed since the last byte, for every connection."""
    loop = gateway.app.watcher._loop
    assert loop is not None

    def look() -> None:
        for connection in list(gateway.server.server_state.connections):
            assert isinstance(connection, HTTPProtocol)
            connection.check_timeouts(loop.time() + seconds)

    loop.call_soon_threadsafe(look)


@pytest.mark.long
@pytest.mark.parametrize(
    ("sent", "after_s", "status"),
    [
        (b"GET /health HTTP/1.1\r\nhost:", 21, 408),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{", 61, 408),
        (b"", 76, None),
    ],
)
def test_every_wait_for_a_client_has_an_end(gateway: Serving, sent: bytes, after_s: float, status: int | None) -> None:
    with connected(gateway) as raw:
        raw.sendall(sent)
        time.sleep(0.2)
        passes(gateway, after_s - 5)
        time.sleep(0.2)
        passes(gateway, after_s)
        assert [answer[0] for answer in read(raw)] == ([status] if status else [])
        assert ended(raw)


@pytest.mark.long
def test_a_client_that_reads_nothing_is_dropped(both: Serving, upstream: PacedUpstream) -> None:
    upstream.chunks = 1_000
    with connected(both) as raw:
        raw.sendall(chat("floods", stream=True))
        assert raw.recv(100)
        time.sleep(0.7)
        passes(both, 290)
        time.sleep(0.1)
        assert not upstream.seen.somebody_left.is_set()
        passes(both, 310)
        assert upstream.seen.somebody_left.wait(5)


@pytest.mark.long
def test_a_stream_in_its_middle_is_left_in_peace(both: Serving, upstream: PacedUpstream) -> None:
    with connected(both) as raw:
        raw.sendall(chat("drips", stream=True))
        assert raw.recv(100)
        passes(both, 1000)
        text = b""
        while b"[DONE]" not in text:
            piece = raw.recv(65536)
            assert piece
            text += piece
