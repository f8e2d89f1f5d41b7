"""Removes Parley's own secrets from what engines and upstreams send: bodies, streams and headers.

A server that echoes a request's headers in an error, or passes on another server's message, would otherwise show an
upstream's key to a client. This does not protect against a server that deliberately encodes a key.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from models.settings.settings import Settings

_MIN_CHARACTERS = 8  # a shorter value, such as `none`, is not a secret and could occur in any text
_REPLACEMENT = b"[redacted]"


class Redactor:
    """Removes a set of secrets. Its `repr` shows none of them."""

    __slots__ = ("_secrets",)

    def __init__(self, secrets: Iterable[str | None] = ()) -> None:
        spellings = {
            spelling
            for secret in secrets
            if secret and len(secret) >= _MIN_CHARACTERS
            for spelling in (secret.encode(), orjson.dumps(secret)[1:-1], quote(secret, safe="").encode())
        }
        # The longest first: one secret may contain another.
        self._secrets = tuple(sorted(spellings, key=lambda each: (-len(each), each)))

    def redact(self, data: bytes) -> bytes:
        """The same bytes without secrets. Takes about 50 ns for each secret and 250 bytes."""
        for secret in self._secrets:
            if secret in data:
                data = data.replace(secret, _REPLACEMENT)
        return data

    def redact_json(self, value: Any) -> Any:
        """The same JSON value without secrets."""
        return orjson.loads(self.redact(orjson.dumps(value))) if self._secrets else value


NO_SECRETS = Redactor()


def settings_secrets(settings: Settings, credentials: Iterable[str]) -> list[str | None]:
    """The secrets in the settings and in the environment variables `credentials`."""
    fields = (
        settings.page_key, settings.openai_api_key, settings.together_api_key, settings.hub_token,
        settings.oidc_client_secret,
    )  # fmt: skip
    secrets = [field.get_secret_value() for field in fields if field is not None]
    if settings.database_url is not None:
        secrets.append(urlsplit(settings.database_url.get_secret_value()).password or "")
    return [*secrets, *(settings.credential(name) for name in sorted(set(credentials)))]
