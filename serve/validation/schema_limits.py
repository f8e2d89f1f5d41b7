"""Rejects JSON schemas and grammars whose counts would overload an engine's compiler.

Measured with vLLM 0.32 and its compilers on 2026-11-22: `{"type": "array", "minItems": 1000000000}`, a request of 100
bytes, took the engine 34 s and 20 GB until the machine killed it; 100,000 take 0.03 s and 17 MB. The compilers
themselves limit lengths of texts, patterns and numbers; vLLM limits the nesting depth of a schema.
"""

import re
from typing import Any

import orjson

from models.errors import Invalid

MAX_ITEMS = 100_000
_COUNTS = frozenset({"minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties"})
_COUNT_NAMES = (b"Items", b"Contains", b"minProperties", b"maxProperties")
# A repetition in a regular expression or a grammar, or a count in a schema inside a grammar.
_REPEATED = re.compile(r"[{,:]\s*\d{6,}")
_CONTAINERS = frozenset({dict, list})
_SCHEMA_FIELDS = ("response_format", "text", "structured_outputs", "tools")


def check_schemas(body: dict[str, Any]) -> None:
    """Rejects counts that are too large to compile. For requests to engines.

    Raises:
        Invalid: `param` names the field that holds the schema or grammar.
    """
    for name in _SCHEMA_FIELDS:
        value = body.get(name)
        if isinstance(value, (dict, list)) and _sum_counts(value) > MAX_ITEMS:
            raise _too_large(name)
    constraints = body.get("structured_outputs")
    if isinstance(constraints, dict):
        for name in ("json", "structural_tag"):
            if isinstance(constraints.get(name), str) and _sum_counts(_parse(constraints[name])) > MAX_ITEMS:
                raise _too_large("structured_outputs")
        for name in ("regex", "grammar"):
            if isinstance(constraints.get(name), str) and _REPEATED.search(constraints[name]):
                raise _too_large("structured_outputs")


def _too_large(name: str) -> Invalid:
    return Invalid(
        f"{name!r} is too large: its counts (minItems, maxItems and such) may add up to at most {MAX_ITEMS}.",
        param=name,
    )


def _parse(text: str) -> Any:
    """A schema given as text; None if it is not JSON, which the engine reports itself."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _sum_counts(value: Any) -> float:
    """The sum of all counts in a schema: the compiler reserves memory for each."""
    # Serialising and searching is ten times as fast for most schemas.
    serialised = orjson.dumps(value)
    if not any(name in serialised for name in _COUNT_NAMES):
        return 0
    total = 0.0
    pending = [value]
    while pending:
        node = pending.pop()
        if type(node) is dict:
            if not _COUNTS.isdisjoint(node):
                counts = [node[name] for name in _COUNTS if name in node]
                total += sum([count for count in counts if isinstance(count, (int, float)) and count > 0])
            pending += [inner for inner in node.values() if type(inner) in _CONTAINERS]
        elif type(node) is list:
            pending += [inner for inner in node if type(inner) in _CONTAINERS]
    return total
