"""Bodies of requests, read whole and bounded: each one, and all that are in memory together. It reads no JSON."""

from models.errors import TooLarge
from serve import replies
from serve.replies import Receive, Scope


class ClientGone(Exception):
    """The client closed the connection: there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """A request's whole body.

    Raises:
        TooLarge: it has more than `limit` bytes, or says so. ClientGone: it never came to its end.
    """
    said = replies.header(scope, b"content-length")
    if said is not None and said.isdigit() and int(said) > limit:
        raise too_large(limit)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
    else:
        pieces, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit or not message.get("more_body"):
                break
            message = await receive()
        body = b"".join(pieces)
    if len(body) > limit:
        raise too_large(limit)
    return body


def too_large(limit: int) -> TooLarge:
    """The 413 for a body of more bytes than the operator allows."""
    return TooLarge(f"The body is over the limit of {limit} bytes: the operator sets it as max_body_mib.")
