"""Checks JSON before it is parsed, in linear time, so that no body occupies the event loop for long.

Measured on 2 cores with bodies of 8 MiB: parsing and validating took 2.1 s for 2.7 million empty objects, 5.6 s for 4
million opening brackets, and 0.03 s for plain text. A thread would not help, because parsing holds the GIL.
"""

from itertools import accumulate
from typing import Any

import orjson

from models.errors import Invalid

MAX_DEPTH = 128  # vLLM accepts JSON schemas 64 levels deep, and a request nests them some levels deep
# The cost of a body in units of about 80 ns: 1 for each comma and colon, more for a string, a list or an object. The
# limit allows 400,000 token ids (OpenAI's embeddings allow 300,000), 16,000 messages, or 256 tools with 50 parameters.
MAX_UNITS = 400_000
_STRING_UNITS, _CONTAINER_UNITS = 3, 8
_MAX_ESCAPES = 1_500_000  # removing an escape takes 20 ns
_SHORT_BYTES = 4096
_MAX_QUOTES = 256
_STRUCTURE = b'"[{,:'
_NO_STRUCTURE = bytes(set(range(256)) - set(_STRUCTURE))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_LEVELS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


def parse_bounded(body: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        Invalid: it has too many values or is nested too deeply. orjson.JSONDecodeError: it is not JSON.
    """
    check_bounds(body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body)
    return orjson.loads(body)


def check_bounds(body: bytes) -> None:
    """Rejects a JSON text that has too many values or is nested too deeply. Exact for valid JSON.

    Raises:
        Invalid: it costs more than `MAX_UNITS`, or has more than `MAX_DEPTH` levels.
    """
    costly = len(body) * _CONTAINER_UNITS > MAX_UNITS and _may_be_costly(body)
    if not costly and not _has_many_brackets(body):
        return
    outside = _outside_of_strings(body)
    if _depth(outside) > MAX_DEPTH:
        raise Invalid(f"The body is nested too deeply: at most {MAX_DEPTH} levels are accepted.")
    if costly and _units(outside) > MAX_UNITS:
        raise _too_many_values()


def _may_be_costly(body: bytes) -> bool:
    """Whether a long body may exceed the limit, by an upper bound.

    This takes 0.03 ms for 400 KB of text in few strings, and 0.2 ms in many strings.
    """
    if (outside := _length_outside_of_strings(body)) is not None:
        return outside * _CONTAINER_UNITS + _MAX_QUOTES * _STRING_UNITS > MAX_UNITS
    return _units(body.translate(None, _NO_STRUCTURE)) > MAX_UNITS


def _length_outside_of_strings(body: bytes) -> int | None:
    """The number of bytes outside of strings; None for a body with many quotes."""
    inside, outside, start = False, 0, 0
    for _ in range(_MAX_QUOTES):
        quote = body.find(b'"', start)
        if quote < 0:
            return outside if inside else outside + len(body) - start
        if inside and body.endswith(b"\\", start, quote):
            piece = body[start:quote]
            inside = (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
        else:
            outside += 0 if inside else quote - start
            inside = not inside
        start = quote + 1
    return None


def _units(text: bytes) -> int:
    containers, quotes = text.count(b"[") + text.count(b"{"), text.count(b'"')
    return (
        text.count(b",") + text.count(b":") + containers * _CONTAINER_UNITS + (quotes // 2 + quotes % 2) * _STRING_UNITS
    )


def _outside_of_strings(body: bytes) -> bytes:
    """The text outside of strings, and two quotes for each string.

    Raises:
        Invalid: there are so many strings or escapes that removing them would take too long.
    """
    if b"\\" in body:
        if body.count(b'\\"') + body.count(b"\\\\") > _MAX_ESCAPES:
            raise _too_many_values()
        # Pairs of backslashes are removed first: any backslash left then escapes the quote after it.
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if body.count(b'"') * _STRING_UNITS > MAX_UNITS * 2:
        raise _too_many_values()
    return b'""'.join(body.split(b'"')[::2])


def _has_many_brackets(body: bytes) -> bool:
    """Whether there are enough opening brackets for a body that is too deep: each level needs one."""
    if len(body) < _SHORT_BYTES:
        return body.count(b"[") + body.count(b"{") > MAX_DEPTH
    # Long bodies are mostly text, and searching for the next bracket skips text ten times as fast as counting.
    left = MAX_DEPTH
    for bracket in (b"[", b"{"):
        place = body.find(bracket)
        while place >= 0:
            left -= 1
            if left < 0:
                return True
            place = body.find(bracket, place + 1)
    return False


def _depth(outside: bytes) -> int:
    brackets = outside.translate(_LEVELS, _NO_BRACKETS)
    # Valid JSON closes each bracket; what follows in other texts is not parsed.
    brackets = brackets[: 2 * (MAX_UNITS // _CONTAINER_UNITS)]
    return max(accumulate(memoryview(brackets).cast("b")), default=0)


def _too_many_values() -> Invalid:
    return Invalid(
        f"The body has too many values: at most {MAX_UNITS:,} numbers, {MAX_UNITS // (_STRING_UNITS + 1):,} strings or "
        f"{MAX_UNITS // (_CONTAINER_UNITS + 1):,} lists and objects are accepted. Send several requests.",
        code="too_many_values",
    )
