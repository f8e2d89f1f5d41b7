"""Who may come in: a Bearer key against the snapshot's digests. Without any key configured, everybody on loopback."""

from models.database import utcnow
from models.errors import Forbidden, Unauthorized
from models.keys import KeyInfo, key_digest
from serve.replies import Scope, header
from serve.snapshot import Snapshot


def admit(scope: Scope, snapshot: Snapshot) -> KeyInfo | None:
    """The key that a request carries; None where none is needed.

    Raises:
        Unauthorized: a key is needed, and there is none, or a wrong one.
    """
    if not snapshot.keys_needed:
        return None
    sent = header(scope, b"authorization") or b""
    scheme, _, secret = sent.partition(b" ")
    if scheme.lower() != b"bearer" or not secret.strip():
        raise Unauthorized(
            "You didn't provide an API key. Send it as a Bearer token in the Authorization header.",
            code="invalid_api_key",
        )
    key = snapshot.keys.get(key_digest(secret.strip().decode("latin-1")))
    if key is None or (key.expires is not None and key.expires <= utcnow()):
        raise Unauthorized("Incorrect API key provided.", code="invalid_api_key")
    return key


def owner_only(key: KeyInfo | None) -> None:
    """Raises Forbidden for a client's key."""
    if key is not None and key.role != "owner":
        raise Forbidden("This needs an owner's key.")
