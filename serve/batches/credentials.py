"""The token with which the worker sends a batch's rows on behalf of the key that created the batch.

It is signed with a secret of the home, which only this home's own processes can read. So no client can send requests
as a batch, with a batch's priority and price. The gateway looks the key up anew: a revoked key's batch ends.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from models.errors import ParleyError
from models.home.page_secret import page_secret

TOKEN_PREFIX = "pb-"  # noqa: S105 -- the start of each token, no secret
_FIELDS = 4


@dataclass(frozen=True)
class BatchToken:
    """The content of a valid token. `key_id`: empty if the batch was created where no key was needed."""

    batch_id: str
    key_id: str
    expires: datetime


def batch_token(home: Path, token: BatchToken) -> str:
    """The token as text.

    Raises:
        ParleyError: the home's secret cannot be read or written.
    """
    content = f"{token.batch_id}.{token.key_id}.{int(token.expires.timestamp())}"
    return f"{TOKEN_PREFIX}{content}.{_signature(home, content)}"


class BatchTokens:
    """Reads tokens. `home`: None reads none."""

    def __init__(self, home: Path | None = None) -> None:
        self._home = home

    def read(self, text: str) -> BatchToken | None:
        """The content of a token; None if it was not signed by this home. It may have expired."""
        content, _, signature = text.strip().removeprefix(TOKEN_PREFIX).rpartition(".")
        parts = content.split(".")
        if self._home is None or len(parts) != _FIELDS - 1:
            return None
        try:
            own = _signature(self._home, content)
        except ParleyError:
            return None
        if not hmac.compare_digest(own.encode(), signature.encode()):
            return None
        return BatchToken(parts[0], parts[1], datetime.fromtimestamp(int(parts[2]), UTC))


def _signature(home: Path, content: str) -> str:
    # A key of its own is derived, so that no signature of the page is one of a batch.
    key = hmac.new(page_secret(home).encode(), b"batches", hashlib.sha256).digest()
    return hmac.new(key, content.encode(), hashlib.sha256).hexdigest()
