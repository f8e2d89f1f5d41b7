"""A parsed request for a model: its route, whether it streams, and the body to send on. It sends nothing."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from models.errors import Invalid
from serve.gateway.authorization import model_not_found
from serve.gateway.conversations import Conversation, find_conversation
from serve.gateway.snapshot import Route, Snapshot
from serve.validation import fields, legacy_functions
from serve.validation.field_limits import check_schemas
from serve.validation.system_messages import fold_system_messages
from serve.validation.tool_fields import TOOL_FIELDS, check_tools, constrain_forced_call
from serve.validation.unsupported_fields import translate_fields

# Their streams consist of chunks that end with [DONE], with usage only on request.
_CHUNK_STREAMS = frozenset({"/v1/chat/completions", "/v1/completions"})
_STREAMS = _CHUNK_STREAMS | {"/v1/responses", "/v1/messages"}
_MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_MAX_TOKENS_SET = frozenset(_MAX_TOKENS)
_BATCH_PRIORITY = 1  # vLLM handles lower numbers first, and all other requests have 0
_CHOICE_FIELDS = frozenset({"n", "prompt"})


class ModelRequest(NamedTuple):
    """A request ready to be sent to its model's server."""

    path: str
    route: Route
    body: bytes
    stream: bool
    hide_usage: bool
    max_tokens: int | None  # per choice; None if the request sets no limit
    choices: int
    legacy_functions: bool = False  # the response needs `function_call` in place of tool calls
    conversation: Conversation | None = None  # if the model has several replicas
    batch: bool = False  # a row of a batch: it comes after all other requests
    shown: dict[str, Any] | None = None  # fields of a response that the server does not know: whether it is stored, …


def find_route(content: Mapping[str, Any], snapshot: Snapshot) -> Route:
    """The route of the model that a request names; for a split alias, of the model that is chosen.

    Raises:
        Invalid: it names no model. NotFound: no model has that name.
    """
    name = content.get("model")
    if not isinstance(name, str) or not name:
        raise Invalid("You must provide a model parameter.", param="model")
    route = snapshot.find_route(name)
    if route is None:
        raise model_not_found(name)
    if route.split is not None:
        chosen = snapshot.routes.get(route.split.choose(content))
        return route if chosen is None else replace(chosen, renamed=True)
    return route


def build_model_request(path: str, content: dict[str, Any], route: Route, *, batch: bool = False) -> ModelRequest:
    """Validates a request and serialises it again for `route`, so that no server parses the client's own bytes.

    Args:
        batch: it is a row of a batch.

    Raises:
        Invalid: a field is not allowed, or the body cannot be serialised.
    """
    fields.check_fields(content)
    body, functions = content, False
    if route.spec.fold_system != "none":
        body = fold_system_messages(path, body, route.spec.fold_system)
    if not route.hosted:
        body, functions = _engine_body(path, body, route)
        if batch:
            body = _with_batch_priority(body, route)
    if route.renamed:
        body = {**body, "model": route.model}
    stream = content.get("stream") is True and path in _STREAMS
    hide_usage = False
    if path in _CHUNK_STREAMS:
        options = content.get("stream_options")
        hide_usage = not (isinstance(options, dict) and options.get("include_usage") is True)
        if stream and hide_usage:
            own = options if isinstance(options, dict) and route.hosted else {}
            body = {**body, "stream_options": {**own, "include_usage": True}}
        elif stream and not route.hosted and options != {"include_usage": True}:
            body = {**body, "stream_options": {"include_usage": True}}
        elif not stream and "stream_options" in body:
            body = {key: value for key, value in body.items() if key != "stream_options"}
    limit, choices = _read_max_tokens(content), _count_choices(content)
    conversation = None if route.replicas is None else find_conversation(route.spec.id, content)
    serialised = _serialise(body)
    return ModelRequest(path, route, serialised, stream, hide_usage, limit, choices, functions, conversation, batch)


def redirect_request(request: ModelRequest, route: Route) -> ModelRequest:
    """The same request for another model's server."""
    content = orjson.loads(request.body)
    content["model"] = route.model
    content.pop("priority", None)
    functions = False
    if route.spec.fold_system != "none":
        content = fold_system_messages(request.path, content, route.spec.fold_system)
    if not route.hosted:
        content, functions = _engine_body(request.path, content, route)
        if request.batch:
            content = _with_batch_priority(content, route)
    # A request that was built for an engine already has tools, but its client still expects function calls.
    functions = functions or request.legacy_functions
    return request._replace(route=route, body=orjson.dumps(content), legacy_functions=functions)


def _engine_body(path: str, content: dict[str, Any], route: Route) -> tuple[dict[str, Any], bool]:
    """The fields that an engine gets, and whether functions were translated to tools.

    Raises:
        Invalid: the engine would fetch a URL, compile a huge schema, or ignore a field that would change the answer.
    """
    body, functions = translate_fields(path, content), False
    if path == "/v1/chat/completions" and legacy_functions.uses_functions(body):
        functions = body.get("functions") is not None
        body = legacy_functions.translate_request(body)
    if not TOOL_FIELDS.isdisjoint(body):
        capabilities = route.capabilities
        # Without a chat template vLLM reports an error itself.
        supported = capabilities is None or capabilities.tools or not capabilities.chat
        check_tools(path, body, route.spec.id, supported=supported)
        body = constrain_forced_call(path, body, toy=route.spec.toy)
    fields.check_media(body)
    # Messages of Anthropic's API can contain tools with schemas.
    check_schemas(body, ("messages",) if path.startswith("/v1/messages") else ())
    return fields.select_engine_fields(path, body), functions


def _with_batch_priority(body: dict[str, Any], route: Route) -> dict[str, Any]:
    """The body with vLLM's priority of a batch. Clients cannot send one: see `serve.validation.fields`."""
    return {**body, "priority": _BATCH_PRIORITY} if route.spec.engine.takes_priorities else body


def _serialise(content: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(content)
    except orjson.JSONEncodeError as error:
        # orjson parses deeper nesting than it serialises.
        raise Invalid("The body is nested too deeply.") from error


def _read_max_tokens(content: Mapping[str, Any]) -> int | None:
    if _MAX_TOKENS_SET.isdisjoint(content):
        return None
    return next((value for name in _MAX_TOKENS if type(value := content.get(name)) is int), None)


def _count_choices(content: Mapping[str, Any]) -> int:
    """`n` for each prompt."""
    if _CHOICE_FIELDS.isdisjoint(content):
        return 1
    n, prompts = content.get("n"), content.get("prompt")
    count = len(prompts) if type(prompts) is list and prompts and type(prompts[0]) is not int else 1
    return count * (n if type(n) is int else 1)
