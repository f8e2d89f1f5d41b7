"""Who may come in, and to which model: a Bearer key against the snapshot. Without any key configured, everybody on
loopback. How much a key may use is in serve/accounting/rate_limits.py."""

import time

from models.errors import Forbidden, NotFound, Unauthorized
from models.keys import KeyInfo, key_digest
from serve.gateway.snapshot import Route, Snapshot
from serve.transport.responses import Scope, header


def admit(scope: Scope, snapshot: Snapshot) -> KeyInfo | None:
    """The key that a request carries; None where none is needed.

    Raises:
        Unauthorized: a key is needed, and there is none, or a wrong one.
    """
    if not snapshot.keys_needed:
        return None
    sent = header(scope, b"authorization") or b""
    # What was let in once is known by its very bytes as long as the snapshot lasts, and needs no digest again.
    key = snapshot.admitted.get(sent) or _look_up(sent, snapshot)
    if key.expires is not None and key.expires.timestamp() <= time.time():
        raise _wrong()
    return key


def _look_up(sent: bytes, snapshot: Snapshot) -> KeyInfo:
    scheme, _, secret = sent.partition(b" ")
    if scheme.lower() != b"bearer" or not secret.strip():
        raise Unauthorized(
            "You didn't provide an API key. Send it as a Bearer token in the Authorization header.",
            code="invalid_api_key",
        )
    key = snapshot.keys.get(key_digest(secret.strip().decode("latin-1")))
    if key is None:
        raise _wrong()
    if sent == b"Bearer " + secret.strip():
        # One way to write a key is kept and no other, so there are as many as there are keys.
        snapshot.admitted[sent] = key
    return key


def may_use(key: KeyInfo | None, name: str, route: Route) -> None:
    """Whether a key may use the model that a request asks for as `name`.

    An id in a key's scope stands for that model under any of its names; an alias for that name, wherever it points.

    Raises:
        NotFound: its scope has neither; told as of a model that is not there, for its name is no client's business.
    """
    if not in_scope(key, name, route):
        raise no_model(name)


def in_scope(key: KeyInfo | None, name: str, route: Route) -> bool:
    """The same as an answer."""
    return key is None or key.models is None or name in key.models or route.spec.id in key.models


def no_model(name: str) -> NotFound:
    """The 404 for a model that is not there, or not for this key: one and the same, in OpenAI's words."""
    return NotFound(
        f"The model {name!r} does not exist or you do not have access to it.", code="model_not_found", param="model"
    )


def owner_only(key: KeyInfo | None) -> None:
    """Raises Forbidden for a client's key."""
    if key is not None and key.role != "owner":
        raise Forbidden("This needs an owner's key.")


def _wrong() -> Unauthorized:
    return Unauthorized("Incorrect API key provided.", code="invalid_api_key")
