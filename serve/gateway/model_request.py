"""What a request asks for: its model and whether it streams, and the bytes that will be sent. It asks nobody."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from models.errors import Invalid
from serve.gateway.authorization import no_model
from serve.gateway.snapshot import Route, Snapshot
from serve.validation import fields
from serve.validation.schema_limits import check_schemas

# Their streams are chunks that end with [DONE], and tell their usage to who asks for it.
_CHUNKED = frozenset({"/v1/chat/completions", "/v1/completions"})
_MOST_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_LENGTHS = frozenset(_MOST_TOKENS)
_MANY = frozenset({"n", "prompt"})


class Asked(NamedTuple):
    """A request as it will be sent: `body` in bytes, what it wants of a stream, and whom it is for."""

    path: str
    route: Route
    body: bytes
    stream: bool
    hide_usage: bool
    most_tokens: int | None  # what it allows each answer, where it says so
    answers: int  # how many it asks for


def route_of(content: Mapping[str, Any], snapshot: Snapshot) -> Route:
    """Whom a request is for.

    Raises:
        Invalid: it names no model. NotFound: nobody has that name.
    """
    name = content.get("model")
    if not isinstance(name, str) or not name:
        raise Invalid("You must provide a model parameter.", param="model")
    route = snapshot.routes.get(name)
    if route is None:
        raise no_model(name)
    return route


def understand(path: str, content: dict[str, Any], route: Route) -> Asked:
    """The request as `route` gets it, written anew: nobody behind us can read another one out of the same bytes.

    Raises:
        Invalid: a field that must not pass, or a body that cannot be written.
    """
    fields.check(content)
    sent = content
    if not route.hosted:
        fields.check_media(content)
        check_schemas(content)
        sent = fields.for_engine(path, content)
    if route.renamed:
        sent = {**sent, "model": route.model}
    stream = content.get("stream") is True and path != "/v1/embeddings"
    if path not in _CHUNKED:
        return Asked(path, route, _written(sent), stream, False, _most_tokens(content), _answers(content))
    options = content.get("stream_options")
    wants_usage = isinstance(options, dict) and options.get("include_usage") is True
    if stream and not wants_usage:
        kept = options if isinstance(options, dict) and route.hosted else {}
        sent = {**sent, "stream_options": {**kept, "include_usage": True}}
    elif stream and not route.hosted and options != {"include_usage": True}:
        sent = {**sent, "stream_options": {"include_usage": True}}
    elif not stream and "stream_options" in sent:
        sent = {key: value for key, value in sent.items() if key != "stream_options"}
    return Asked(path, route, _written(sent), stream, not wants_usage, _most_tokens(content), _answers(content))


def _written(content: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        # It reads deeper than it writes.
        raise Invalid("The body is nested too deeply.") from error


def _most_tokens(content: Mapping[str, Any]) -> int | None:
    if _LENGTHS.isdisjoint(content):
        return None
    for name in _MOST_TOKENS:
        most = content.get(name)
        if type(most) is int:
            return most
    return None


def _answers(content: Mapping[str, Any]) -> int:
    """`n` of them, for each prompt of a list."""
    if _MANY.isdisjoint(content):
        return 1
    each = content.get("n")
    prompts = content.get("prompt")
    many = len(prompts) if type(prompts) is list and prompts and type(prompts[0]) is not int else 1
    return many * (each if type(each) is int else 1)
