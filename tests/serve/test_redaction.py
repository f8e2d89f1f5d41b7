"""Our own secrets never reach a client, whatever an upstream returns."""

import json
import socket
import threading
from collections.abc import Iterator

import pytest

from models.database import Database
from models.settings.page_settings import page_environment, without_upstream_keys
from models.settings.settings import Settings
from serve.gateway.redaction import Redactor
from tests.serve.gateways import Serving, serving

UPSTREAM_KEY = "sk-of-the-upstream-1234567890"
PAGE_KEY = "pk-of-the-page-1234567890"


class EchoingUpstream:
    """An upstream on a raw socket that returns its key, and the page's, in body and headers, in two pieces."""

    def __init__(self) -> None:
        self.status, self.stream = 400, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(2**16)
                head, body = self._response()
                connection.sendall(head)
                cut = body.index(b"1234567890")
                for piece in (body[:cut], body[cut:]):
                    connection.sendall(piece)
                    threading.Event().wait(0.02)

    def _response(self) -> tuple[bytes, bytes]:
        text = f"you sent Bearer {UPSTREAM_KEY}, page {PAGE_KEY}"
        kind, body = b"application/json", json.dumps({"error": {"message": text}}).encode()
        if self.stream:
            chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})
            end = json.dumps({"error": {"message": text}}) if self.status == 500 else "[DONE]"
            kind, body = b"text/event-stream", f"data: {chunk}\n\ndata: {end}\n\n".encode()
        elif self.status == 200:
            body = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": text}}]}).encode()
        status = 200 if self.stream else self.status
        fields = b"x-ratelimit-reset-requests: %b\r\nretry-after: %b\r\n" % (UPSTREAM_KEY.encode(), PAGE_KEY.encode())
        head = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\n%bconnection: close\r\n" % (status, kind, fields)
        return head + b"content-length: %d\r\n\r\n" % len(body), body


@pytest.fixture
def echo(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Serving, EchoingUpstream]]:
    monkeypatch.setenv("ECHO_API_KEY", UPSTREAM_KEY)
    upstream = EchoingUpstream()
    secret = settings.model_validate(settings.model_dump() | {"page_key": PAGE_KEY})
    with serving(secret, database) as running:
        running.hosted("echo", base_url=f"{upstream.address}/v1", credential="ECHO_API_KEY")
        yield running, upstream
    upstream.close()


@pytest.mark.long
def test_an_echoed_key_is_cut_out_of_bodies_streams_and_headers(echo: tuple[Serving, EchoingUpstream]) -> None:
    gateway, upstream = echo
    for status, stream in [
        (400, False),
        (404, False),
        (429, False),
        (503, False),
        (200, False),
        (200, True),
        (500, True),
    ]:
        upstream.status, upstream.stream = status, stream
        body = json.dumps({"model": "echo", "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}"
        )
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as raw:
            raw.sendall(f"{request}\r\n\r\n{body}".encode())
            received = b"".join(iter(lambda: raw.recv(2**16), b""))
        assert received.count(b"[redacted]") >= 3, (status, stream, received)
        assert b"1234567890" not in received
        gateway.app._inference._dispatcher._servers.clear()  # the circuit breaker of the failures before


def test_a_redactor_removes_every_spelling_and_leaves_the_rest() -> None:
    redactor = Redactor(["a/b+secret\\1", "short", None, "", "secret-long-one", "secret-long-one-more"])
    assert redactor.redact(b"x secret-long-one-more y secret-long-one z") == b"x [redacted] y [redacted] z"
    assert redactor.redact(b'{"a":"a/b+secret\\\\1"} ?a%2Fb%2Bsecret%5C1') == b'{"a":"[redacted]"} ?[redacted]'
    assert redactor.redact(b"a short text") == b"a short text"
    assert redactor.redact_json({"a": ["secret-long-one", 1]}) == {"a": ["[redacted]", 1]}
    assert "secret" not in repr(redactor)


def test_the_page_gets_no_keys_of_upstreams(settings: Settings) -> None:
    kept = ("PATH", "PARLEY_PAGE_KEY", "PARLEY_DATABASE_URL", "PARLEY_OIDC_CLIENT_SECRET")
    removed = ("OPENAI_API_KEY", "PARLEY_OPENAI_API_KEY", "PARLEY_TOGETHER_API_KEY", "HF_TOKEN", "PARLEY_HUB_TOKEN")
    given = dict.fromkeys((*kept, *removed, "MY_UPSTREAM_KEY"), "value")
    assert set(page_environment(given)) == set(kept)
    full = settings.model_validate(settings.model_dump() | {"openai_api_key": "a", "hub_token": "b"})
    page = without_upstream_keys(full)
    assert (page.openai_api_key, page.hub_token, page.home) == (None, None, settings.home)
