"""Fields that vLLM does not support but that change the answer: translated if vLLM has an equivalent, else refused.

Fields that an engine does not know are dropped (see `serve.validation.fields`). That is right for fields without an
effect on the answer, such as `store`. Others must not be dropped: the client would get a 200 with the wrong answer.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import Invalid
from serve.validation.field_limits import check_limits

_CHAT, _COMPLETIONS, _RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
_MESSAGES = "/v1/messages"
_STRUCTURED = "use response_format or structured_outputs"
_NO_AUDIO = "this model answers with text only"
_GENERATING: Mapping[str, str] = MappingProxyType(
    {
        "use_beam_search": "beam search is not supported; use n",
        "grammar": _STRUCTURED, "json_schema": _STRUCTURED, "regex": _STRUCTURED,
        "guided_whitespace_pattern": _STRUCTURED, "audio": _NO_AUDIO,
    }
)  # fmt: skip
_SHAPING: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        _CHAT: {
            **_GENERATING,
            "web_search_options": "this model cannot search the web; define a function that your program runs",
            "best_of": "use n", "prompt": "use messages, or /v1/completions",
            "input": "use messages, or /v1/responses", "text": "use response_format",
            "max_output_tokens": "use max_completion_tokens", "suffix": "use /v1/completions",
        },
        _COMPLETIONS: {
            **_GENERATING,
            "messages": "use /v1/chat/completions", "tools": "use /v1/chat/completions",
            "functions": "use /v1/chat/completions", "max_completion_tokens": "use max_tokens",
            "max_output_tokens": "use max_tokens",
        },
        _RESPONSES: {
            **_GENERATING,
            "messages": "it has moved to 'input'", "response_format": "it has moved to 'text.format'",
            "max_tokens": "it has moved to 'max_output_tokens'",
            "max_completion_tokens": "it has moved to 'max_output_tokens'",
            "reasoning_effort": "it has moved to 'reasoning.effort'",
            "functions": "it has moved to 'tools'", "function_call": "it has moved to 'tool_choice'",
            "n": "a response has one answer; send several requests",
            "prompt": "prompts are not stored here; send 'input' and 'instructions'",
            "conversation": "this server has no conversations; use 'previous_response_id'",
        },
        _MESSAGES: {
            "mcp_servers": "this model cannot call MCP servers; define tools that your program runs",
            "container": "this model cannot run code; define tools that your program runs",
            "functions": "use tools", "stop": "use stop_sequences", "response_format": "use output_config.format",
        },
    }
)  # fmt: skip
_SHAPING_NAMES: Mapping[str, frozenset[str]] = MappingProxyType(
    {path: frozenset(names) for path, names in _SHAPING.items()}
)
# vLLM replaced these by structured_outputs, and ignores them.
_GUIDED: Mapping[str, str] = MappingProxyType(
    {"guided_json": "json", "guided_regex": "regex", "guided_choice": "choice", "guided_grammar": "grammar"}
)
_TRANSLATED = frozenset(_GUIDED) | {"response_format", "modalities"}


def translate_fields(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with translated fields; the same object if there is nothing to translate.

    Raises:
        Invalid: a field that changes the answer would be dropped; `param` names it.
    """
    shaping = _SHAPING_NAMES.get(path)
    if shaping is not None and not shaping.isdisjoint(body):
        _reject_shaping(path, body)
    if path == _RESPONSES:
        _reject_references(body.get("input"))
    if _TRANSLATED.isdisjoint(body):
        return body
    modalities = body.get("modalities")
    if modalities and modalities != ["text"]:
        raise _unsupported("modalities", _NO_AUDIO)
    if path not in (_CHAT, _COMPLETIONS):
        guided = next((name for name in _GUIDED if body.get(name) is not None), None)
        if guided is not None:
            other = "output_config.format" if path == _MESSAGES else "text.format or structured_outputs"
            raise _unsupported(guided, f"use {other}")
        return body
    return _translate_format(_translate_guided(body))


def _reject_shaping(path: str, body: Mapping[str, Any]) -> None:
    for name, advice in _SHAPING[path].items():
        # Many clients send null, false or an empty value for what is not set.
        if body.get(name) not in (None, False, [], {}, ""):
            if (name, body[name]) == ("best_of", 1) or (name, body[name]) == ("n", 1):
                continue
            raise _unsupported(name, advice)


def _reject_references(items: Any) -> None:
    """Rejects references to stored items, which vLLM would take for messages without a role."""
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and item.get("type") == "item_reference":
            raise Invalid(
                "References to items (item_reference) are not supported: send the items themselves, or "
                "'previous_response_id'.",
                param="input",
                code="unsupported_parameter",
            )


def _unsupported(name: str, advice: str) -> Invalid:
    return Invalid(f"Unsupported parameter: {name!r}: {advice}.", param=name, code="unsupported_parameter")


def _translate_guided(body: dict[str, Any]) -> dict[str, Any]:
    guided = {name: body[name] for name in _GUIDED if body.get(name) is not None}
    if not guided:
        return body
    name = next(iter(guided))
    if len(guided) > 1 or body.get("structured_outputs") is not None:
        raise Invalid("The request has several constraints on the answer: send only one.", param=name)
    rest = {key: value for key, value in body.items() if key not in _GUIDED}
    translated = {**rest, "structured_outputs": {_GUIDED[name]: guided[name]}}
    check_limits(translated)
    return translated


def _translate_format(body: dict[str, Any]) -> dict[str, Any]:
    """The body with a JSON schema in place of `{"type": "json_object", "schema": …}`, whose schema vLLM ignores."""
    shape = body.get("response_format")
    if not isinstance(shape, dict):
        return body
    if shape.get("type") == "json_object" and isinstance(shape.get("schema"), dict):
        described = {"type": "json_schema", "json_schema": {"name": "response", "schema": shape["schema"]}}
        return {**body, "response_format": described}
    if shape.get("type") == "json_schema":
        described = shape.get("json_schema")
        if not isinstance(described, dict) or not isinstance(described.get("schema"), (dict, bool)):
            param = "response_format.json_schema"
            param += ".schema" if isinstance(described, dict) else ""
            raise Invalid(f"Missing required parameter: {param!r}.", param=param, code="missing_required_parameter")
    return body
