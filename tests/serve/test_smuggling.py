"""Request smuggling, on raw sockets: nothing that a proxy in front could parse differently is served.

Classes: CWE-444 as in RFC 9112 section 11.2: CL.TE, TE.CL, TE.TE, CL.CL, bare LF and CR, obs-fold, odd chunks,
absolute and odd targets, old HTTP, heads without end.
"""

import json
import re
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_http_protocol import chat, connected, ended, read

BODY = json.dumps({"model": "engine", "messages": [{"role": "user", "content": "smuggled"}]}).encode()
# The prefix that an attacker would put before another client's request.
SMUGGLED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
TE, CL0 = b"transfer-encoding: chunked\r\n", b"content-length: 0\r\n"


def everything(raw: socket.socket, patience_s: float = 1.0) -> bytes:
    """Everything received until the gateway closes or is silent for a while."""
    raw.settimeout(patience_s)
    data = b""
    try:
        while piece := raw.recv(65536):
            data += piece
    except (TimeoutError, ConnectionResetError):
        return data
    return data


ATTACKS = {
    "CL.TE": POST + CL0 + TE + b"\r\n0\r\n\r\n" + SMUGGLED,
    "TE.CL": POST + TE + b"content-length: 4\r\n\r\n5c\r\n" + SMUGGLED + b"\r\n0\r\n\r\n",
    "CL.CL": POST + CL0 + b"content-length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED,
    "CL equal twice": POST + CL0 + CL0 + b"\r\n" + SMUGGLED,
    "CL list": POST + b"content-length: 0, 0\r\n\r\n" + SMUGGLED,
    "CL plus": POST + b"content-length: +0\r\n\r\n" + SMUGGLED,
    "CL hex": POST + b"content-length: 0x0\r\n\r\n" + SMUGGLED,
    "CL minus": POST + b"content-length: -0\r\n\r\n" + SMUGGLED,
    "CL too large": POST + b"content-length: 18446744073709551616\r\n\r\n" + SMUGGLED,
    "CL with a space before the colon": POST + b"content-length : 0\r\n\r\n" + SMUGGLED,
    "TE.TE": POST + TE + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE twice": POST + TE + TE + b"\r\n0\r\n\r\n" + SMUGGLED,
    "TE odd": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE list": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE quoted": POST + b'transfer-encoding: "chunked"\r\n\r\n0\r\n\r\n' + SMUGGLED,
    "TE tab": POST + b"transfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE space": POST + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE folded": POST + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "TE in HTTP/1.0": POST.replace(b"1.1", b"1.0") + TE + CL0 + b"\r\n0\r\n\r\n" + SMUGGLED,
    "TE underscore": POST + CL0 + b"transfer_encoding: chunked\r\n\r\n" + SMUGGLED,
    "obs-fold": POST + b"x: y\r\n folded: z\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "bare LF": (POST + CL0 + b"\r\n").replace(b"\r\n", b"\n") + SMUGGLED,
    "LF between headers": POST + b"x: y\ncontent-length: 0\r\n\r\n" + SMUGGLED,
    "bare CR": POST + b"x: y\rcontent-length: 0\r\n\r\n" + SMUGGLED,
    "NUL": POST + b"x: a\x00b\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "no name": POST + b": y\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "space before the first header": POST + b" x: y\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "two hosts": POST + b"host: y\r\n" + CL0 + b"\r\n",
    "chunk size minus": POST + TE + b"\r\n-1\r\n\r\n" + SMUGGLED,
    "chunk size 0x": POST + TE + b"\r\n0x0\r\n\r\n" + SMUGGLED,
    "chunk size too large": POST + TE + b"\r\nffffffffffffffff0\r\n" + SMUGGLED,
    "chunk size with LF": POST + TE + b"\r\n0\n\n" + SMUGGLED,
    "chunk longer than it says": POST + TE + b"\r\n1\r\nab\r\n0\r\n\r\n" + SMUGGLED,
    "chunk without an end": POST + TE + b"\r\n1\r\naX0\r\n\r\n" + SMUGGLED,
    "chunk extension with LF": POST + TE + b"\r\n2;\n" + b"xx\r\n0\r\n\r\n" + SMUGGLED,
    "chunk extension with CR": POST + TE + b"\r\n2;a\rb\r\nxx\r\n0\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"POST /v1/chat/completions\r\n\r\n" + SMUGGLED,
    "HTTP/1.1 tab": b"POST\t/v1/chat/completions\tHTTP/1.1\r\nhost: x\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "HTTP/11": b"POST /v1/chat/completions HTTP/11\r\nhost: x\r\n" + CL0 + b"\r\n" + SMUGGLED,
    "unknown method": b"SMUG /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + CL0 + b"\r\n" + SMUGGLED,
}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_nothing_that_can_be_read_in_two_ways_is_served(
    both: Serving, upstream: PacedUpstream, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with connected(both) as raw:
        raw.sendall(ATTACKS[name])
        answers = everything(raw)
    assert answers.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405", b"HTTP/1.1 413")), answers[:200]
    assert upstream.seen.requests == []
    assert answers.count(b"HTTP/1.1 ") == 1
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.exc_info]


def test_the_second_request_of_a_pair_is_a_request_of_its_own(both: Serving, upstream: PacedUpstream) -> None:
    """Conversely, what everyone reads as two requests is two requests here."""
    with connected(both) as raw:
        raw.sendall(chat("engine") + SMUGGLED)
        assert [status for status, _, _ in read(raw, 2)] == [200, 200]
    assert [request["messages"][0]["content"] for request in upstream.seen.requests] == ["hello", "smuggled"]


def test_chunk_extensions_are_passed_over_and_bounded(both: Serving, upstream: PacedUpstream) -> None:
    with connected(both) as raw:
        raw.sendall(POST + TE + b"\r\n%x;name=value\r\n%b\r\n0;x\r\n\r\n" % (len(BODY), BODY))
        assert read(raw)[0][0] == 200
    with connected(both) as raw:
        raw.sendall(POST + TE + b"\r\n")
        try:
            for _ in range(400):
                raw.sendall(b"1;" + b"x" * 65_536 + b"\r\na\r\n")
        except OSError:
            pass  # closed, with or without an answer
        else:
            raise AssertionError("26 MB around 400 bytes were taken")
    assert len(upstream.seen.requests) == 1


@pytest.mark.parametrize(
    "target",
    [
        b"http://127.0.0.1/v1/models",
        b"http://elsewhere.example/v1/models",
        b"HTTP://x/v1/models",
        b"//elsewhere.example/v1/models",
        b"/v1/../v1/models",
        b"/v1/%2e%2e/metrics",
        b"/v1/models%00",
        b"/v1/models/%2e%2e",
        b"/v1%2fmodels",
        b"/v1\\models",
        b"/v1/models/\xc3\xa9",
        b"*",
        b"v1/models",
        b"?x",
    ],
)
def test_odd_targets_are_refused(both: Serving, target: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with connected(both) as raw:
        raw.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        ((status, headers, body),) = read(raw)
    assert status == 400
    assert headers["content-type"] == "application/json"
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.long
@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT", b"PUT", b"PATCH", b"PROPFIND", b"get"])
def test_odd_methods_are_refused(both: Serving, method: bytes) -> None:
    with connected(both) as raw:
        raw.sendall(method + b" /v1/models HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        ((status, _, body),) = read(raw)
    assert status in (400, 405)
    assert json.loads(body)["error"]["message"]


@pytest.mark.long
def test_a_model_id_with_a_slash_is_found(both: Serving) -> None:
    both.hosted("org/two:parts", base_url="http://127.0.0.1:9/v1")
    for target in (b"/v1/models/org%2Ftwo%3Aparts", b"/v1/models/org/two:parts"):
        with connected(both) as raw:
            raw.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            ((status, _, body),) = read(raw)
        assert (status, json.loads(body)["id"]) == (200, "org/two:parts")


def test_a_head_that_never_ends_costs_no_memory_and_stops_nobody(both: Serving) -> None:
    with connected(both) as slow, connected(both) as raw:
        slow.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n")
        for _ in range(5):
            slow.sendall(b"x: y\r\n")
            time.sleep(0.02)
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read(raw)[0][0] == 200
        try:
            for _ in range(200):
                slow.sendall(b"x: %b\r\n" % (b"y" * 1000))
                time.sleep(0.0005)
            assert ended(slow)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up


@pytest.mark.long
def test_a_head_that_drips_and_a_body_that_stops_are_timed(
    both: Serving, upstream: PacedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slowloris: further bytes do not extend the time for a head. Connections are checked once a second."""
    monkeypatch.setattr("serve.transport.http_protocol._HEAD_TIMEOUT_S", 0.5)
    monkeypatch.setattr("serve.transport.http_protocol._BODY_TIMEOUT_S", 0.5)
    with connected(both) as head, connected(both) as body:
        head.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")
        body.sendall(POST + b"content-length: 1000\r\n\r\n{")
        for number in range(40):
            head.sendall(b"x%d: y\r\n" % number)
            head.settimeout(0.1)
            try:
                received = head.recv(65536)
                break
            except TimeoutError:
                continue
        else:
            raise AssertionError("a head may take as long as it likes")
        assert received.startswith(b"HTTP/1.1 408")
        ((status, headers, answer),) = read(body)
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(answer)["error"]["type"] == "invalid_request_error"
        assert ended(body)
    assert upstream.seen.requests == []


_WHOLE = chat("engine") + b"GET /v1/models/engine HTTP/1.1\r\nhost: x\r\n\r\n"
_PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"chunked",
    b"transfer-encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"%00",
    b"/../",
]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
@given(
    st.lists(
        st.tuples(st.integers(0, len(_WHOLE)), st.integers(0, 4), st.sampled_from(_PIECES) | st.binary(max_size=4)),
        min_size=1,
        max_size=4,
    )
)
@pytest.mark.long
def test_broken_bytes_break_nothing(both: Serving, caplog: pytest.LogCaptureFixture, changes: list) -> None:
    """A valid pair of requests with bytes inserted and removed: a 4xx or an answer, never a 5xx or a traceback."""
    sent = _WHOLE
    for place, taken, put in changes:
        sent = sent[:place] + put + sent[place + taken :]
    with connected(both) as raw:
        raw.sendall(sent)
        answers = everything(raw, 0.05)
    for status in re.findall(rb"(?:\A|\r\n\r\n|\})HTTP/1\.1 (\d+)", answers):
        assert status < b"500", sent
    assert not [record for record in caplog.records if record.exc_info], sent
    with connected(both) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert read(raw)[0][0] == 200
