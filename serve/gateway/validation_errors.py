"""Translates vLLM's lists of pydantic errors to one of OpenAI's sentences, with the parameter that is wrong.

vLLM 0.32 reports an invalid field with an entry for each type that it tried: nineteen for `content: null` in a message.
The entries are about a few places in the request. The most likely place is described by the value found there.
Sources: vllm/entrypoints/serve/exception_handling/handlers/validation.py; pydantic's own text, which vLLM passes on for
the parts of a message.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

_HEAD = re.compile(r"^\d+ validation errors?\b")
_ENTRY = re.compile(
    r"'type': '(?P<kind>[^']*)'.*?'loc': '(?P<place>[^']*)'"
    r"(?:, 'msg': (?P<quote>['\"])(?P<text>.*?)(?P=quote)(?:, '|}|$))?"
)
_PLAIN_ENTRY = re.compile(r"^(?P<place>\S+)\n +(?P<text>.*?) \[type=(?P<kind>\w+), input_value=", re.MULTILINE)
_LITERALS = re.compile(r"Input should be ('.*)$")
_MAX_ITEMS = re.compile(r"at most (\d+) items?.*, not (\d+)")
# Names of union branches in pydantic's paths: classes, and types that vLLM leaves in the path.
_BRANCH = re.compile(r"[A-Z]\w*|\w+-\w+|.*[\[\](){} ].*")
# The type that each of pydantic's error types expects, in OpenAI's words.
_TYPES = {
    "string_type": "a string", "list_type": "an array", "iterable_type": "an array", "tuple_type": "an array",
    "int_type": "an integer", "int_parsing": "an integer", "int_from_float": "an integer",
    "float_type": "a number", "float_parsing": "a number", "bool_type": "a boolean", "bool_parsing": "a boolean",
    "dict_type": "an object", "model_type": "an object", "model_attributes_type": "an object",
    "dataclass_type": "an object", "mapping_type": "an object",
}  # fmt: skip
_MAX_VALUE_CHARS = 80
_ABSENT = object()
_Path = tuple[str | int, ...]


class _Entry(NamedTuple):
    kind: str
    path: _Path
    branch: str
    text: str


def describe_validation_errors(message: str, body: bytes) -> dict[str, Any] | None:
    """`message`, `param` and `code` for a list of validation errors; None if the message is not one.

    Args:
        body: the request as the engine got it.
    """
    if not _HEAD.match(message):
        return None
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        request = {}
    entries = list(_read_entries(message, request))
    if not entries:
        return {"message": "The request is not valid.", "param": None, "code": "invalid_value"}
    entry = _best_entry(entries, request)
    same_place = [other for other in entries if other.path == entry.path]
    return _describe(entry, same_place, _value_at(request, entry.path))


def _read_entries(message: str, request: Any) -> Iterator[_Entry]:
    for line in message.splitlines()[1:]:
        if (match := _ENTRY.search(line)) is not None:
            yield _entry(match, ())
    for match in _PLAIN_ENTRY.finditer(message):
        yield _entry(match, _parts_prefix(request))


def _entry(match: re.Match[str], prefix: _Path) -> _Entry:
    parts = match["place"].split(".")
    parts = parts[parts[:1] == ["body"] :]
    path = tuple(int(part) if part.isdigit() else part for part in parts if part and not _BRANCH.fullmatch(part))
    branch = next((part for part in parts if part and _BRANCH.fullmatch(part)), "")
    return _Entry(match["kind"], prefix + path, branch, match["text"] or "")


def _parts_prefix(request: Any) -> _Path:
    """The path to the first message with parts: vLLM validates parts separately, with paths relative to them."""
    for field in ("messages", "input"):
        messages = request.get(field) if isinstance(request, dict) else None
        for index, message in enumerate(messages if isinstance(messages, list) else ()):
            if isinstance(message, dict) and isinstance(message.get("content"), list):
                return field, index, "content"
    return ()


def _best_entry(entries: Sequence[_Entry], request: Any) -> _Entry:
    """The error that most likely describes the client's mistake.

    Each alternative of a union reports its own errors. Those of the alternative that the request names (a message's
    role, a part's type) come first. Then a wrong type ranks above a wrong name, and that above a missing field, because
    fields of the other alternatives are missing too.
    """
    named = [entry for entry in entries if _is_named(entry, request)]

    def rank(entry: _Entry) -> tuple[int, bool, int, bool]:
        absent = _value_at(request, entry.path) is _ABSENT and entry.kind != "missing"
        wrong_type = entry.kind in _TYPES
        likelihood = 0
        if entry.kind in ("literal_error", "enum"):
            likelihood = 1
        elif entry.kind in ("missing", "extra_forbidden") or (wrong_type and _has_deeper(entry, entries)):
            likelihood = 2
        return likelihood, absent, -len(entry.path), wrong_type

    return min(named or entries, key=rank)


def _is_named(entry: _Entry, request: Any) -> bool:
    """Whether the request names this alternative, as `"role": "user"` names ChatCompletionUserMessageParam."""
    if not entry.branch or entry.kind == "literal_error":
        return False
    owner = _value_at(request, entry.path[:-1])
    names = [owner.get("role"), owner.get("type")] if isinstance(owner, dict) else []
    return any(isinstance(name, str) and name and name.replace("_", "") in entry.branch.lower() for name in names)


def _has_deeper(entry: _Entry, entries: Sequence[_Entry]) -> bool:
    depth = len(entry.path)
    return any(len(other.path) > depth and other.path[:depth] == entry.path for other in entries)


def _value_at(request: Any, path: _Path) -> Any:
    value = request
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return value


def _describe(entry: _Entry, same_place: Sequence[_Entry], value: Any) -> dict[str, Any]:
    param = _spell_path(entry.path)
    if entry.kind == "missing" or value is _ABSENT:
        return _error(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if entry.kind == "extra_forbidden":
        return _error(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if entry.kind in _TYPES:
        wanted = dict.fromkeys(_TYPES[other.kind] for other in same_place if other.kind in _TYPES)
        got = f"but got {_name_type(value)} instead"
        return _error(f"Invalid type for '{param}': expected {' or '.join(wanted)}, {got}.", param, "invalid_type")
    literals = dict.fromkeys(match[1] for other in same_place if (match := _LITERALS.search(other.text)))
    if literals:
        values = ", ".join(literals)
        return _error(f"Invalid value for '{param}': {_shorten(value)}. Supported values are: {values}.", param)
    if (count := _MAX_ITEMS.search(entry.text)) is not None:
        return _error(
            f"Invalid '{param}': array too long. Expected an array with maximum length {count[1]}, but got an array "
            f"with length {count[2]} instead.",
            param,
            "array_above_max_length",
        )
    reason = entry.text.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    reason = re.sub(r" \((?:parameter|value)=.*\)$", "", reason).replace("Input should", "it should").rstrip(".")
    return _error(f"Invalid value for '{param}': {reason}." if param else f"{reason}.", param)


def _error(message: str, param: str, code: str = "invalid_value") -> dict[str, Any]:
    return {"message": message, "param": param or None, "code": code}


def _spell_path(path: _Path) -> str:
    """A path as OpenAI spells it: `messages[0].content`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")


def _name_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    names = {str: "a string", int: "an integer", float: "a number", list: "an array", dict: "an object"}
    return names.get(type(value), "another type")


def _shorten(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else orjson.dumps(value).decode()
    return text if len(text) <= _MAX_VALUE_CHARS else text[:_MAX_VALUE_CHARS] + "…"
