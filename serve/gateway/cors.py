"""CORS: which web pages may call the gateway from a browser. By default none; the operator lists origins.

Origins are compared exactly and there is no `*`: without keys, any web page could otherwise use the models of a
visitor's machine. Cookies are never allowed, because a key travels in its own header. Source: the Fetch standard,
https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

import re
from collections.abc import Iterable

from serve.transport.asgi import Headers, Scope, header

_METHODS = b"GET, POST, DELETE"
_EXPOSED_HEADERS = (
    b"x-request-id, x-parley-model, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
# A preflight's requested headers are echoed, so they must look like a list of header names.
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_MAX_HEADER_BYTES = 2048


class Cors:
    """The CORS headers for a list of origins. Without origins, responses are unchanged."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Scope) -> Headers:
        """The CORS headers of any response to this request, errors included."""
        if not self._origins:
            return []
        origin = header(scope, b"origin")
        # So that caches keep the response for this origin only.
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
        ]

    def preflight(self, scope: Scope) -> Headers | None:
        """The additional headers of the response to a preflight request; None for any other request.

        A preflight is answered before authentication, because browsers send no key with it.
        """
        if scope["method"] != "OPTIONS" or header(scope, b"origin") not in self._origins:
            return None
        if header(scope, b"access-control-request-method") is None:
            return None
        allowed = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
        requested = header(scope, b"access-control-request-headers") or b""
        if len(requested) <= _MAX_HEADER_BYTES and _HEADER_NAMES.fullmatch(requested):
            allowed.append((b"access-control-allow-headers", requested))
        return allowed
