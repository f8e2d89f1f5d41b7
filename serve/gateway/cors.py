"""Which web pages may call the gateway from a browser: those whose origins the operator names, and by default none.

An origin is held letter by letter, and there is no `*`: without keys every page that somebody opens could otherwise
use the models of that somebody's machine. Cookies are never asked for: a key travels in its header. Source: the Fetch
standard, https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

import re
from collections.abc import Iterable

from serve.transport.responses import Headers, Scope, header

_METHODS = b"GET, POST, DELETE"
_EXPOSED = (
    b"x-request-id, x-parley-model, openai-processing-ms, retry-after, retry-after-ms, x-should-retry, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "
    b"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
# What a preflight asks for is given back as it came, so it has to look like a list of header names.
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
_LONGEST = 2048


class Cors:
    """The rules for one list of origins. Without any it adds nothing to any answer."""

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, scope: Scope) -> Headers:
        """What any answer to this request carries, an error too."""
        if not self._origins:
            return []
        origin = header(scope, b"origin")
        # Whoever caches an answer keeps it for this origin alone, or for none.
        if origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"vary", b"Origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, scope: Scope) -> Headers | None:
        """The headers of a 204, beside `headers`, for a browser that asks before it sends; None for anything else.

        It is answered before any key is looked at: a browser sends none with it.
        """
        if scope["method"] != "OPTIONS" or header(scope, b"origin") not in self._origins:
            return None
        if header(scope, b"access-control-request-method") is None:
            return None
        allowed = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", b"600")]
        wanted = header(scope, b"access-control-request-headers") or b""
        if len(wanted) <= _LONGEST and _NAMES.fullmatch(wanted):
            allowed.append((b"access-control-allow-headers", wanted))
        return allowed
