"""Checks the path, headers and JSON of a request before anything else. Allowed fields are in `serve.validation.fields`.

Rejects whatever two programs in a row could interpret differently (RFC 9112, section 11.2; CWE-444, CWE-22), so that
nothing behind the gateway has to agree with it.
"""

import re
from collections.abc import Container
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from models.errors import Forbidden, Invalid, ParleyError
from models.http.json_bounds import parse_bounded
from serve.transport.asgi import Scope, header

MAX_PATH_BYTES = 2048
_MODELS = (b"/v1/models/", b"/v1/parley/models/", b"/v1/parley/aliases/")  # before a model's id

# Nearly every request has one of these paths, which need no further check.
_COMMON_PATHS = frozenset(
    {
        b"/v1/chat/completions", b"/v1/completions", b"/v1/embeddings", b"/v1/responses", b"/v1/models", b"/health",
        b"/ready", b"/metrics", b"/v1/messages", b"/v1/messages/count_tokens", b"/v1/tokenize", b"/v1/rerank",
        b"/v1/moderations",
    }
)  # fmt: skip
# RFC 3986's pchar without %, in segments that are neither empty nor only dots. One / may end the path.
_PLAIN_PATH = re.compile(rb"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9\-._~!$&'()*+,;=:@]+)+/?|/")
_ESCAPED = re.compile(rb"%[0-9A-Fa-f]{2}")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
# If one of these comes twice, two programs may pick different ones.
_SINGLE_HEADERS = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"authorization", b"content-type", b"content-encoding",
        b"expect", b"origin", b"x-api-key", b"api-key",
    }
)  # fmt: skip
# Host names that no outsider can point a browser at: addresses, and names that public DNS does not have.
_LOCAL_HOST = re.compile(
    rb"(?i)(?:\[[0-9a-f:.%]+\]|\d{1,3}(?:\.\d{1,3}){3}|(?:[a-z0-9_\-]+\.)*localhost\.?|[a-z0-9_\-]*)(?::\d{1,5})?"
)
# Servers that turn - into _ for their programs confuse these with the real headers.
_LOOK_ALIKES = (b"content_length", b"transfer_encoding", b"content_encoding")
_JSON = re.compile(rb"(?i)\s*(?:application/(?:[\w.\-]+\+)?json|text/json)\s*(?:;.*)?", re.DOTALL)
# Routes that accept only a form. A JSON body is rejected by the route itself.
_TAKES_FORMS = re.compile(rb"/v1/files/?|/v1/uploads/[^/]+/parts/?")
_FORM = re.compile(rb"(?i)\s*multipart/form-data\s*(?:;.*)?", re.DOTALL)


class MisdirectedRequest(ParleyError):
    """The request is for a host name that is not known to be ours."""

    status = 421
    kind = "invalid_request_error"


class UnsupportedMediaType(ParleyError):
    """The body has a content type or encoding that is not supported."""

    status = 415
    kind = "invalid_request_error"


def check_head(scope: Scope) -> None:
    """Rejects a request with an ambiguous path or ambiguous headers. Takes a few µs for an ordinary one.

    Raises:
        Invalid: the path or a header is not accepted. UnsupportedMediaType: the body is neither JSON nor a form.
    """
    raw: bytes = scope["raw_path"]
    if raw not in _COMMON_PATHS:
        _check_path(raw, scope["path"])
        if b"%00" in scope["query_string"]:
            raise Invalid("A NUL character is not accepted in a query.", code="invalid_url")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    by_name = dict(headers)
    if len(by_name) != len(headers):
        _check_repeats(headers)
    if b"transfer-encoding" in by_name:
        _check_chunks(by_name)
    if (length := by_name.get(b"content-length")) is not None and not (length.isdigit() and len(length) < 16):
        raise _invalid_header("The header content-length must be a whole number.")
    for name in _LOOK_ALIKES:
        if name in by_name:
            raise _invalid_header(f"The header {name.decode()} is not accepted.")
    if scope["method"] == "POST":
        _check_content_type(raw, by_name)


def check_cross_site(scope: Scope, origins: Container[bytes]) -> None:
    """Rejects requests of other sites' pages to a gateway without keys, which any browser on this machine could send.

    Args:
        origins: pages that the operator allows, as in the header `origin`.

    Raises:
        MisdirectedRequest: the host name may be pointed at loopback by an outsider (DNS rebinding). Forbidden: the
            request comes from another site's page.
    """
    host = header(scope, b"host") or b""
    if not _LOCAL_HOST.fullmatch(host):
        raise MisdirectedRequest(
            "Without keys this gateway only answers to localhost, addresses and names without a dot. Create a key with "
            "`parley keys create NAME --role client`."
        )
    # For reads, the browser itself keeps other sites' pages from seeing the response.
    origin = header(scope, b"origin") if scope["method"] in ("POST", "DELETE") else None
    if origin is not None and origin not in origins and origin != scope.get("scheme", "http").encode() + b"://" + host:
        raise Forbidden(
            "Pages of another site may not use this gateway. The operator can allow the site with cors_origins.",
            param="origin",
        )


def parse_json(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. Its depth and its number of values are checked before it is parsed.

    The last of several equal keys counts, as in vLLM's parser and Python's. What is sent on is serialised from this
    object, so the server cannot read it differently.

    Raises:
        Invalid: the body is not valid JSON (RFC 8259: UTF-8, no NaN, no lone surrogate), not an object, too deep,
            or has too many values.
    """
    try:
        content = parse_bounded(body)
    except orjson.JSONDecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise Invalid("The body must be a JSON object.")
    return content


def _check_path(raw: bytes, path: str) -> None:
    if len(raw) > MAX_PATH_BYTES:
        raise _invalid_path(f"it is longer than {MAX_PATH_BYTES} bytes")
    if _PLAIN_PATH.fullmatch(raw):
        if path != raw.decode():
            raise _invalid_path("it is ambiguous")
        return
    if b"%" not in raw:
        raise _invalid_path("it must consist of plain names between single slashes")
    if raw.count(b"%") != len(_ESCAPED.findall(raw)):
        raise _invalid_path("a % must be followed by two hexadecimal digits")
    decoded = unquote_to_bytes(raw)
    try:
        same = path == decoded.decode()
    except UnicodeDecodeError:
        raise _invalid_path("its escapes are not UTF-8") from None
    if not same:
        raise _invalid_path("it is ambiguous")
    escapes = {escape.lower() for escape in _ESCAPED.findall(raw)}
    if b"%2f" in escapes and not raw.startswith(_MODELS):
        raise _invalid_path("%2F is only accepted in a model's id")
    if escapes & {b"%2e", b"%5c", b"%25"} or _CONTROL.search(decoded):
        raise _invalid_path("escaped dots, backslashes, % and control characters are not accepted")
    # Slashes in a model's id count too: no part of an id is empty or consists of dots only.
    if any(part in (b"", b".", b"..") for part in decoded.rstrip(b"/").split(b"/")[1:]):
        raise _invalid_path("it must consist of plain names between single slashes")
    if not _PLAIN_PATH.fullmatch(_ESCAPED.sub(b"x", raw)):
        raise _invalid_path("it has a character that must be escaped")


def _invalid_path(why: str) -> Invalid:
    return Invalid(f"The path of this URL is not accepted: {why}.", code="invalid_url")


def _invalid_header(what: str) -> Invalid:
    # A proxy in front may see the end of this request elsewhere, so the connection takes no further request.
    return Invalid(what, code="invalid_header", headers={"connection": "close"})


def _check_repeats(headers: list[tuple[bytes, bytes]]) -> None:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE_HEADERS:
            raise _invalid_header(f"The header {name.decode()} is repeated.")
        seen.add(name)


def _check_chunks(by_name: dict[bytes, bytes]) -> None:
    if b"content-length" in by_name:
        raise _invalid_header("Send content-length or transfer-encoding, not both.")
    if by_name[b"transfer-encoding"].strip(b" \t").lower() != b"chunked":
        raise _invalid_header("The header transfer-encoding may only be chunked.")


def _check_content_type(raw: bytes, by_name: dict[bytes, bytes]) -> None:
    """Accepts JSON, or no content type, as OpenAI does; forms too on routes other than inference."""
    encoding = by_name.get(b"content-encoding")
    if encoding is not None and encoding.strip(b" \t").lower() != b"identity":
        raise UnsupportedMediaType("Compressed bodies (content-encoding) are not accepted.")
    kind = by_name.get(b"content-type")
    # The most common spelling first.
    if kind is None or kind == b"application/json" or not kind or _JSON.fullmatch(kind):
        return
    takes_forms = _TAKES_FORMS.fullmatch(raw) is not None
    if takes_forms and not _FORM.fullmatch(kind):
        raise UnsupportedMediaType(
            "The body must be a form: send the file in a field of multipart/form-data, as the OpenAI SDK does.",
            param="content-type",
        )
    if raw in _COMMON_PATHS or not _FORM.fullmatch(kind):
        raise UnsupportedMediaType("The body must be JSON: send content-type: application/json.", param="content-type")
