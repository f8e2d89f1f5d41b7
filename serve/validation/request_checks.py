"""What may come in at all: a request's path, headers and body, looked at before anything else looks at them.

It knows HTTP and JSON; which fields a body may have is `serve.validation.fields`'s. What two programs in a row could read
in two ways is refused here (RFC 9112, section 11.2; CWE-444, CWE-22), so that nobody behind the gateway has to agree
with it.
"""

import re
from collections.abc import Container
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from models.errors import Forbidden, Invalid, ParleyError
from serve.transport.responses import Scope, header

DEEPEST = 128  # a JSON schema may nest 64 levels in vLLM, and stands some levels deep in its request
LONGEST_PATH = 2048
_SHORT = 4096
_MODELS = b"/v1/models/"

# Nearly every request: these need no second look.
_ORDINARY = frozenset(
    {
        b"/v1/chat/completions",
        b"/v1/completions",
        b"/v1/embeddings",
        b"/v1/responses",
        b"/v1/models",
        b"/health",
        b"/ready",
        b"/metrics",
    }
)
# RFC 3986's pchar without %, in segments that are neither empty nor dots alone. One / may end it.
_PLAIN = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]+)+/?|/")
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# Two of one of these, and two programs may choose differently.
_ONCE = frozenset(
    {
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"authorization",
        b"content-type",
        b"content-encoding",
        b"expect",
        b"origin",
    }
)
# Nobody outside can make a browser take these for their own site's name: addresses, and names that no public DNS has.
_HARMLESS_HOST = re.compile(
    rb"(?i)(?:\[[0-9a-f:.%]+\]|\d{1,3}(?:\.\d{1,3}){3}|(?:[a-z0-9_\-]+\.)*localhost\.?|[a-z0-9_\-]*)(?::\d{1,5})?"
)
# Servers that turn - into _ for their programs would take these for the real ones.
_LOOK_ALIKES = (b"content_length", b"transfer_encoding", b"content_encoding")
_JSON = re.compile(rb"(?i)\s*(?:application/(?:[\w.\-]+\+)?json|text/json)\s*(?:;.*)?", re.DOTALL)
_FORM = re.compile(rb"(?i)\s*multipart/form-data\s*(?:;.*)?", re.DOTALL)
_BRACKETS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class Elsewhere(ParleyError):
    """A request to a name that is not known to be ours."""

    status = 421
    kind = "invalid_request_error"


class UnsupportedMedia(ParleyError):
    """A body of a kind, or packed in a way, that is not taken here."""

    status = 415
    kind = "invalid_request_error"


def check_scope(scope: Scope) -> None:
    """Refuses a request whose path or headers are not what they seem. A few µs for an ordinary one.

    Raises:
        Invalid: the path or a header is odd. UnsupportedMedia: the body is of another kind than JSON or a form.
    """
    raw: bytes = scope["raw_path"]
    if raw not in _ORDINARY:
        _check_path(raw, scope["path"])
        if b"%00" in scope["query_string"]:
            raise Invalid("A NUL character is not accepted in a query.", code="invalid_url")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    found = dict(headers)
    if len(found) != len(headers):
        _check_repeats(headers)
    if b"transfer-encoding" in found:
        _check_chunks(found)
    if (length := found.get(b"content-length")) is not None and not (length.isdigit() and len(length) < 16):
        raise _odd_header("The header content-length must be a whole number.")
    for name in _LOOK_ALIKES:
        if name in found:
            raise _odd_header(f"The header {name.decode()} is not accepted.")
    if scope["method"] == "POST":
        _check_kind(raw, found)


def check_visitor(scope: Scope, origins: Container[bytes]) -> None:
    """Refuses pages of other sites, for a gateway without keys: a browser on this machine would lend them its place.

    Args:
        origins: pages that the operator lets in, as the header `origin` names them.

    Raises:
        Elsewhere: the name is one that somebody else may point at loopback (DNS rebinding). Forbidden: another site's
            page sends it.
    """
    host = header(scope, b"host") or b""
    if not _HARMLESS_HOST.fullmatch(host):
        raise Elsewhere(
            "Without keys this gateway answers to localhost, addresses and names without a dot. "
            "Make a key with `parley keys create NAME --role client`."
        )
    # What is only read, a browser keeps from other sites' pages by itself.
    origin = header(scope, b"origin") if scope["method"] in ("POST", "DELETE") else None
    if origin is not None and origin not in origins and origin != b"http://" + host:
        raise Forbidden("A page of another site may not use this gateway: name it in cors_origins.", param="origin")


def parse(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. How deep it nests is known before anything parses it.

    Of a key that comes twice the last one counts, as for vLLM's parser and Python's. What is sent on is written anew
    from what was read here, so nobody can read another one.

    Raises:
        Invalid: it is not JSON (RFC 8259: UTF-8, no NaN, no half of a surrogate pair), no object, or too deep.
    """
    if _many_brackets(body) and _deeper(body, DEEPEST):
        raise Invalid(f"The body is nested too deeply: {DEEPEST} levels are accepted.")
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Invalid("The body must be a JSON object.")
    return content


def _many_brackets(body: bytes) -> bool:
    """Whether brackets open often enough for a body that is too deep: each level needs one."""
    if len(body) < _SHORT:
        return body.count(b"[") + body.count(b"{") > DEEPEST
    # A long body is text for the most part, and looking for the next bracket skips text ten times as fast as counting.
    left = DEEPEST
    for bracket in (b"[", b"{"):
        place = body.find(bracket)
        while place >= 0:
            left -= 1
            if left < 0:
                return True
            place = body.find(bracket, place + 1)
    return False


def _deeper(body: bytes, levels: int) -> bool:
    """Whether brackets nest deeper than that, those in strings left out. Exact for whatever is JSON."""
    plain = body
    if b"\\" in body:
        # Pairs of backslashes first: what is left of a run of them tells whether the quote after it is escaped.
        plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Between its quotes, every second piece stands outside of strings.
    left = b"".join(plain.split(b'"')[::2]).translate(_BRACKETS, _NO_BRACKETS)
    for passed in range(levels):
        # Each level that is left needs a bracket of its own.
        if left.count(b"[") <= levels - passed:
            return False
        # The innermost pairs go: one level less.
        shorter = left.replace(b"[]", b"")
        if len(shorter) == len(left):
            return True
        left = shorter
    return b"[" in left


def _check_path(raw: bytes, path: str) -> None:
    if len(raw) > LONGEST_PATH:
        raise _odd_path(f"it is longer than {LONGEST_PATH} bytes")
    if _PLAIN.fullmatch(raw):
        if path != raw.decode():
            raise _odd_path("it is read in two ways")
        return
    if b"%" not in raw:
        raise _odd_path("its parts are plain names between single slashes")
    if raw.count(b"%") != len(_ESCAPED.findall(raw)):
        raise _odd_path("a % stands before two hexadecimal digits")
    decoded = unquote_to_bytes(raw)
    try:
        same = path == decoded.decode()
    except UnicodeDecodeError:
        raise _odd_path("what is escaped is not UTF-8") from None
    if not same:
        raise _odd_path("it is read in two ways")
    escapes = {escape.lower() for escape in _ESCAPED.findall(raw)}
    if b"%2f" in escapes and not raw.startswith(_MODELS):
        raise _odd_path("%2F stands in a model's id alone")
    if escapes & {b"%2e", b"%5c", b"%25"} or _CONTROL.search(decoded):
        raise _odd_path("dots, backslashes, % and control characters are not escaped in a path")
    # The slashes of a model's id count too: no id has an empty part, or one of dots alone.
    if any(part in (b"", b".", b"..") for part in decoded.rstrip(b"/").split(b"/")[1:]):
        raise _odd_path("its parts are plain names between single slashes")
    if not _PLAIN.fullmatch(_ESCAPED.sub(b"x", raw)):
        raise _odd_path("a character in it must be escaped")


def _odd_path(why: str) -> Invalid:
    return Invalid(f"The path of this URL is not accepted: {why}.", code="invalid_url")


def _odd_header(what: str) -> Invalid:
    # Where this request ends, a proxy in front may see in another place: the next one begins on a new connection.
    return Invalid(what, code="invalid_header", headers={"connection": "close"})


def _check_repeats(headers: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _ONCE:
            raise _odd_header(f"The header {name.decode()} came twice.")
        seen.add(name)


def _check_chunks(found: dict[bytes, bytes]) -> None:
    if b"content-length" in found:
        raise _odd_header("Send content-length or transfer-encoding, not both.")
    if found[b"transfer-encoding"].strip(b" \t").lower() != b"chunked":
        raise _odd_header("The header transfer-encoding may be chunked, nothing else.")


def _check_kind(raw: bytes, found: dict[bytes, bytes]) -> None:
    """JSON, or no word about it, as OpenAI takes it; forms too, for the routes that are not relayed."""
    packed = found.get(b"content-encoding")
    if packed is not None and packed.strip(b" \t").lower() != b"identity":
        raise UnsupportedMedia("A packed body (content-encoding) is not accepted: send it as it is.")
    kind = found.get(b"content-type")
    # Its usual spelling first.
    if kind is None or kind == b"application/json" or not kind or _JSON.fullmatch(kind):
        return
    if raw in _ORDINARY or not _FORM.fullmatch(kind):
        raise UnsupportedMedia("The body must be JSON: send content-type: application/json.", param="content-type")
