"""An owner's random raw requests to all routes on the gateway's sockets: none causes our own 5xx or a traceback."""

import json
import logging
import random
import re
import socket

import pytest

import parley
from models.database import Database
from models.keys import create_key
from models.settings.settings import Settings
from tests.serve.gateways import Serving, serving

# In a stack without engines and trainers these statuses are right for a correct request.
EXPECTED_5XX = frozenset({501, 503, 505})
_VALUES = (
    "x", "", "\x00", "é" * 300, "../../etc/passwd", -1, 0, 1, 10**30, 1e308, True, None, [], [[]], {}, {"a": 1},
    ["x"] * 40, "ft:gpt:x", [{"role": "user", "content": "hi"}], [{"role": "user", "content": None}], [None],
    {"type": "function"},
)  # fmt: skip
_FIELDS = (
    "model", "messages", "prompt", "input", "stream", "tools", "tool_choice", "max_tokens", "n", "response_format",
    "training_file", "validation_file", "hyperparameters", "method", "suffix", "metadata", "file", "purpose", "name",
    "role", "models", "path", "upstream", "credential", "target", "weights", "filename", "bytes", "mime_type",
    "part_ids", "format", "prompt_column", "url", "kind", "limits", "expires", "pin", "engine", "campaign",
)  # fmt: skip
_HEADERS = (
    "content-type: text/plain", "content-type: application/json; charset=x", "content-type: multipart/form-data",
    "content-type: multipart/form-data; boundary=b", f"content-type: multipart/form-data; boundary={'b' * 300}",
    "content-encoding: gzip", "transfer-encoding: chunked", "expect: 100-continue", "range: bytes=0-", "accept: x",
    "x-forwarded-for: \xff", "cookie: a=b; a", "origin: http://[", "if-none-match: *", "upgrade: h2c",
    "content-length: 5", "content-length: -1", "x-parley-name: \xe9", "authorization: Bearer x", f"x: {'y' * 70000}",
)  # fmt: skip
_QUERIES = (
    "limit=x",
    "limit=-1",
    "limit=99999999999999999999",
    "after=%ff",
    "after=x",
    "order=y",
    "purpose[]=1",
    "%",
    "a=%00",
)


def raw_request(rng: random.Random, routes: list[tuple[str, str]], key: str) -> bytes:
    """One request: mostly well-formed, with a few things wrong."""
    method, path = rng.choice(routes)
    if rng.random() < 0.1:
        method = rng.choice(("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "X"))
    path = re.sub(
        r"\{[^}]*\}", lambda _: rng.choice(("x", "file-1", "%00", "a%2Fb", "9" * 300, "ftjob-1", "%ff", "a:b")), path
    )
    if rng.random() < 0.2:
        path += "?" + rng.choice(_QUERIES)
    if rng.random() < 0.05:
        path = rng.choice(("//", "/%", "", "*", "http://x/v1/models", "/v1/" + "a" * 5000, "/\xff", "/v1/./x")) + path
    body = _body(rng)
    headers = [f"authorization: Bearer {key}"] if rng.random() < 0.97 else []
    headers += rng.sample(_HEADERS, rng.choice((0, 0, 0, 1, 1, 2)))
    names = [line.partition(":")[0] for line in headers]
    if "content-type" not in names and body:
        headers.append("content-type: application/json")
    if "transfer-encoding" in names:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif "content-length" not in names and body:
        headers.append(f"content-length: {len(body)}")
    head = "\r\n".join((f"{method} {path} HTTP/1.1", "host: localhost", "connection: close", *headers))
    request = head.encode("latin-1") + b"\r\n\r\n" + body
    if rng.random() < 0.05:
        request = bytearray(request)
        for _ in range(3):
            request[rng.randrange(len(request))] = rng.randrange(256)
    return bytes(request[: rng.randrange(1, len(request))] if rng.random() < 0.03 else request)


def _body(rng: random.Random) -> bytes:
    draw = rng.random()
    if draw < 0.2:
        return b""
    if draw < 0.3:
        parts = [
            f'--b\r\ncontent-disposition: form-data; name="{rng.choice(_FIELDS)}"\r\n\r\n{rng.choice(_VALUES)}\r\n'
            for _ in range(2)
        ]
        filename = rng.choice(("a.jsonl", "x.parquet", "..", ""))
        file = f'--b\r\ncontent-disposition: form-data; name="file"; filename="{filename}"\r\n\r\n{{}}\r\n'
        return ("".join(parts) + file + rng.choice(("--b--\r\n", "--b", ""))).encode()
    if draw < 0.35:
        return rng.choice(
            (b"[" * 200, b'"\\ud800"', b"\xff\xfe", b"null", b"[]", b"1e999", b'{"a":1,"a":2}', b"{", b"{}" * 2)
        )
    chosen = {name: rng.choice(_VALUES) for name in rng.sample(_FIELDS, rng.randrange(6))}
    return json.dumps(chosen).encode()


def status_of(port: int, request: bytes) -> int:
    """The status of the first response; 0 if the connection is closed without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        received = b""
        try:
            connection.sendall(request)
            connection.settimeout(0.1)
            try:
                received = connection.recv(65536)
            except TimeoutError:  # the request is incomplete, or takes longer
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(20)
                received = connection.recv(65536)
        except ConnectionError:
            return 0
    match = re.match(rb"HTTP/1\.1 (\d{3}) ", received)
    return int(match[1]) if match else 0


def send_raw_requests(serving_: Serving, key: str, seed: int, count: int) -> list[tuple[int, bytes]]:
    """Sends `count` requests; returns those with an unexpected 5xx."""
    import urllib.request

    openapi_request = urllib.request.Request(
        f"{serving_.root}/openapi.json", headers={"authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(openapi_request) as answer:
        documented = json.load(answer)["paths"]
    routes = [(method.upper(), path) for path, methods in documented.items() for method in methods]
    routes += [("GET", "/v1/models/x"), ("GET", "/nothing"), ("GET", "/v1/responses/x"), ("POST", "//v1/models/")]
    rng = random.Random(seed)
    wrong = []
    for _ in range(count):
        request = raw_request(rng, routes, key)
        if (status := status_of(serving_.port, request)) >= 500 and status not in EXPECTED_5XX:
            wrong.append((status, request[:600]))
    return wrong


@pytest.mark.parametrize("count", [50, pytest.param(2_000, marks=pytest.mark.long)])
def test_no_request_causes_a_server_error(
    settings: Settings, database: Database, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    key = create_key(database, name="owner", role="owner")
    with serving(settings, database, parley.api_routes(settings, database)) as running:
        running.seen(lambda snapshot: snapshot.keys_needed)
        with caplog.at_level(logging.WARNING):
            wrong = send_raw_requests(running, key, seed=count, count=count)
    assert not wrong, wrong[:5]
    assert "Traceback" not in caplog.text
