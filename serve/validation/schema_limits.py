"""What an engine would have to compile (JSON schemas, grammars): refused where counts in it make the compiler a danger.

Measured with vLLM 0.32 and its compilers on 2026-11-22: `{"type": "array", "minItems": 1000000000}`, a request of 100
bytes, took the engine 34 s and 20 GB, and the machine killed it; 100,000 take 0.03 s and 17 MB. Lengths of texts,
patterns and numbers are kept by the compilers themselves. vLLM bounds how deep a schema nests, and nothing else.
"""

import re
from typing import Any

import orjson

from models.errors import Invalid

MOST_ITEMS = 100_000
_COUNTS = frozenset({"minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties"})
_WORDS = (b"Items", b"Contains", b"minProperties", b"maxProperties")
# A repetition in a regular expression or a grammar, or a count in a schema that a grammar holds.
_REPEATED = re.compile(r"[{,:]\s*\d{6,}")
_NESTS = frozenset({dict, list})
_HOLDERS = ("response_format", "text", "structured_outputs", "tools")


def check_schemas(body: dict[str, Any]) -> None:
    """Refuses counts that no compiler gets through. For requests to engines.

    Raises:
        Invalid: `param` names the field that holds the schema or grammar.
    """
    for name in _HOLDERS:
        value = body.get(name)
        if isinstance(value, (dict, list)) and _items(value) > MOST_ITEMS:
            raise _too_many(name)
    guides = body.get("structured_outputs")
    if isinstance(guides, dict):
        for name in ("json", "structural_tag"):
            if isinstance(guides.get(name), str) and _items(_read(guides[name])) > MOST_ITEMS:
                raise _too_many("structured_outputs")
        for name in ("regex", "grammar"):
            if isinstance(guides.get(name), str) and _REPEATED.search(guides[name]):
                raise _too_many("structured_outputs")


def _too_many(name: str) -> Invalid:
    return Invalid(
        f"{name!r} asks for too much: the counts in it (minItems, maxItems and such) may be {MOST_ITEMS} together.",
        param=name,
    )


def _read(text: str) -> Any:
    """A schema that came as text; None where it is none, which the engine says itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _items(value: Any) -> float:
    """All counts of a schema together: each is room that the compiler takes."""
    # Written out and searched, most schemas are done with in a tenth of the time.
    written = orjson.dumps(value)
    if not any(word in written for word in _WORDS):
        return 0
    total = 0.0
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if type(node) is dict:
            if not _COUNTS.isdisjoint(node):
                counts = [node[name] for name in _COUNTS if name in node]
                total += sum([count for count in counts if isinstance(count, (int, float)) and count > 0])
            waiting += [inner for inner in node.values() if type(inner) in _NESTS]
        elif type(node) is list:
            waiting += [inner for inner in node if type(inner) in _NESTS]
    return total
