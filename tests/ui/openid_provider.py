"""A FAKE OpenID Connect provider that speaks the real protocol on a real socket: discovery, codes with PKCE, keys.

It has no passwords: every visitor is the person in `claims`.
"""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "parley-page", "not-a-real-secret"


class Provider(ThreadingHTTPServer):
    """The provider. `claims` go over those of the next ID tokens; `key` signs them, `published` is what JWKS shows."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.issuer = f"http://127.0.0.1:{port}"
        self.kid = secrets.token_hex(4)
        self.published = self.key = RSAKey.generate_key(2048, {"kid": self.kid})
        self.claims: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        address, provider = urlsplit(self.path), self.server
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            paths = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            self._json({"issuer": provider.issuer} | {name: f"{provider.issuer}/{at}" for name, at in paths.items()})
        elif address.path == "/jwks":
            self._json({"keys": [provider.published.as_dict(private=False)]})
        elif address.path == "/authorize" and query["client_id"] == CLIENT_ID and query["response_type"] == "code":
            code = secrets.token_urlsafe(12)
            provider.codes[code] = query
            self.send_response(302)
            self.send_header(
                "location", f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
            )
            self.end_headers()
        else:
            self._json({"error": "invalid_request"}, 400)

    def do_POST(self) -> None:
        provider = self.server
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        sent = {name: values[0] for name, values in parse_qs(body).items()}
        granted = provider.codes.pop(sent.get("code", ""), None)
        digest = hashlib.sha256(sent.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        client = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        good = (
            granted is not None
            and self.headers.get("authorization") == f"Basic {client}"
            and (challenge, sent["redirect_uri"]) == (granted["code_challenge"], granted["redirect_uri"])
        )
        if granted is None or not good:
            self._json({"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        claims = {
            "iss": provider.issuer, "sub": "7", "aud": CLIENT_ID, "iat": now, "exp": now + 300,
            "nonce": granted["nonce"],
        }  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": provider.kid}, claims | provider.claims, provider.key)
        self._json({"access_token": "unused", "token_type": "Bearer", "expires_in": 300, "id_token": token})

    def _json(self, body: Any, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server names it so
        """Says nothing."""


@contextmanager
def serving_provider(port: int) -> Iterator[Provider]:
    """The provider on a port of this machine while the block runs."""
    provider = Provider(port)
    threading.Thread(target=provider.serve_forever, daemon=True).start()
    yield provider
    provider.shutdown()
    provider.server_close()
