"""Authentication by key against the snapshot, and which models a key may use. Without keys, no key is needed.

A key is sent as a Bearer token or, without an Authorization header, as `x-api-key` or `api-key`.

The worker sends a batch's rows with a token that names the batch's key: see `serve.batches.credentials`.

How much a key may use is in `serve.accounting.rate_limits`.
"""

import time
from dataclasses import replace

from models.clock import utcnow
from models.errors import Forbidden, NotFound, Unauthorized
from models.keys import KeyInfo, key_digest
from models.usage import NO_KEY
from serve.batches.credentials import TOKEN_PREFIX
from serve.gateway.snapshot import Route, Snapshot
from serve.transport.asgi import Scope, header

_BATCH = b"Bearer " + TOKEN_PREFIX.encode()


def authenticate(scope: Scope, snapshot: Snapshot) -> KeyInfo | None:
    """The key that a request carries; None where none is needed.

    Raises:
        Unauthorized: a key is needed and is missing or wrong.
    """
    value = header(scope, b"authorization")
    if not snapshot.keys_needed:
        return _find_batch_key(value, snapshot) if value is not None and value.startswith(_BATCH) else None
    if value is None:
        value = _key_header(scope)
    # A header that was accepted once needs no digest again while this snapshot lasts.
    key = snapshot.accepted_headers.get(value) or _find_key(value, snapshot)
    if key.expires is not None and key.expires.timestamp() <= time.time():
        raise _incorrect_key()
    return key


def _key_header(scope: Scope) -> bytes:
    """The key in the headers of Anthropic's and Azure's clients, as an Authorization header; empty if there is none."""
    secret = header(scope, b"x-api-key") or header(scope, b"api-key")
    return b"Bearer " + secret if secret else b""


def _find_key(value: bytes, snapshot: Snapshot) -> KeyInfo:
    scheme, _, secret = value.partition(b" ")
    if scheme.lower() != b"bearer" or not secret.strip():
        raise Unauthorized(
            "You didn't provide an API key. Send it as a Bearer token in the Authorization header, or as x-api-key.",
            code="invalid_api_key",
        )
    if value.startswith(_BATCH):
        return _find_batch_key(value, snapshot)
    key = snapshot.keys.get(key_digest(secret.strip().decode("latin-1")))
    if key is None:
        raise _incorrect_key()
    if value == b"Bearer " + secret.strip():
        # Only one spelling per key is cached, so the cache cannot outgrow the keys.
        snapshot.accepted_headers[value] = key
    return key


def _find_batch_key(value: bytes, snapshot: Snapshot) -> KeyInfo:
    """The key on whose behalf the worker sends a batch's rows. What it may use is as it is now, not as it was when the
    batch was created.
    """
    if (key := snapshot.accepted_headers.get(value)) is not None:
        return key
    batch = snapshot.batch_tokens.read(value.removeprefix(b"Bearer ").decode("latin-1"))
    if batch is None or batch.expires <= utcnow():
        raise _incorrect_key()
    if not batch.key_id:
        key = KeyInfo(NO_KEY, "", "client", batch.expires, batch.expires, None, batch=True)
    else:
        own = next((key for key in snapshot.keys.values() if key.id == batch.key_id), None)
        if own is None:
            raise _incorrect_key()
        expires = batch.expires if own.expires is None else min(own.expires, batch.expires)
        key = replace(own, role="client", expires=expires, batch=True)
    snapshot.accepted_headers[value] = key
    return key


def check_model_access(key: KeyInfo | None, name: str, route: Route) -> None:
    """Checks that a key may use the model that a request names `name`.

    An id in a key's scope allows that model under any of its names; an alias allows that name, wherever it points.

    Raises:
        NotFound: the scope has neither. The error is that of a model that does not exist, to reveal nothing.
    """
    if not may_use_model(key, name, route):
        raise model_not_found(name)


def may_use_model(key: KeyInfo | None, name: str, route: Route) -> bool:
    """Whether a key may use the model that a request names `name`."""
    return key is None or key.models is None or name in key.models or route.spec.id in key.models


def model_not_found(name: str) -> NotFound:
    """The 404 for a model that does not exist or that the key may not use, with OpenAI's message."""
    return NotFound(
        f"The model {name!r} does not exist or you do not have access to it.", code="model_not_found", param="model"
    )


def require_owner(key: KeyInfo | None) -> None:
    """Raises Forbidden for a client's key."""
    if key is not None and key.role != "owner":
        raise Forbidden("This needs an owner's key.")


def _incorrect_key() -> Unauthorized:
    return Unauthorized("Incorrect API key provided.", code="invalid_api_key")
