"""Translates vLLM's errors to OpenAI's: code, parameter and one sentence that names none of vLLM's internals.

The patterns match vLLM 0.32: renderers/params.py (lengths), entrypoints/serve/exception_handling (validation),
v1/engine/exceptions.py (dead engines).
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from models.errors import Invalid, Unavailable
from serve.gateway.validation_errors import describe_validation_errors
from serve.validation.tool_fields import no_tools

# The parameter with the prompt; on all other routes it is `messages`.
_PROMPT_PARAMS = {
    "/v1/completions": "prompt", "/v1/responses": "input", "/v1/embeddings": "input", "/v1/rerank": "documents",
}  # fmt: skip
_LENGTHS = (
    re.compile(
        r"maximum context length is (?P<limit>\d+) tokens\. However, your prompt contains "
        r"(?P<used>(?:at least )?\d+ (?:input tokens|characters))"
    ),
    re.compile(r"Input length \((?P<used>\d+)\) exceeds model's maximum context length \((?P<limit>\d+)\)"),
    re.compile(r"prompt \(length (?P<used>\d+)\) is longer than the maximum model length of (?P<limit>\d+)"),
)
_TOO_MANY_TOKENS = re.compile(r"(?P<param>max\w+)=(?P<asked>\d+) cannot be greater than max_model_len=(?P<limit>\d+)")
_DEAD = re.compile(r"EngineCore|EngineDead|stack trace", re.IGNORECASE)
_DEAD_MESSAGE = "The model's engine stopped unexpectedly and is restarting. Try again in a moment."
_SUFFIX = re.compile(r" \((?:parameter|value)=.*\)$", re.DOTALL)
# Names that only an operator or developer of vLLM knows.
_INTERNAL = re.compile(
    r"--\w|\bVLLM|\bvllm\b|\bvLLM\b|pydantic|Traceback|<path>|site-packages|\btorch\b|\bxgrammar\b|EngineCore|"
    r"[a-z]\w*Error\b|[A-Z]\w+(?:Param|Request|Error|Exception)\b|skip_tokenizer_init|Valid aliases|"
    r"reasoning_config|\.py\b",
    re.IGNORECASE,
)
_GRAMMAR_PLACE = re.compile(r"\[\d\d:\d\d:\d\d\] <path>:\d+: ")
_FIRST_WORD = re.compile(r"[`'\"]?(\w+)")
# The beginning of a message that names internals, and the message for the client.
_KNOWN = (
    ("thinking_token_budget is set but", "The model does not reason: send no 'thinking_token_budget'."),
    (
        "You must use one kind of structured outputs constraint",
        "'structured_outputs' must have exactly one of json, regex, choice, grammar or structural_tag.",
    ),
    (
        "default chat template is no longer",
        "The model has no chat template: use /v1/completions, or register the model with "
        "`parley models add … --chat-template`.",
    ),
    ("is not a multimodal model", "The model accepts text only: send no images or audio."),
)
_TOPICS = (
    ("multimodal", ("messages", "input")),
    ("conversation", ("messages", "input")),
    ("Token id", ("prompt",)),
    ("constraint", ("structured_outputs", "response_format", "text")),
    ("grammar", ("structured_outputs", "response_format", "text", "tools", "output_config")),
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_MAX_CHARS = 500


def translate_error(error: Mapping[str, Any], status: int, path: str, body: bytes, model: str = "") -> dict[str, Any]:
    """An engine's error as OpenAI would report it.

    Args:
        error: `message`, `type`, `param` and `code`, as `serve.transport.error_responses.openai_error` returns them.
        path: the route of the request, such as `/v1/chat/completions`.
        body: the request as the engine received it.
        model: the model's id.

    Raises:
        Unavailable: the engine has died. Invalid: the model does not support tools, or the grammar permits no text.
    """
    message = str(error["message"])
    if status >= 500 and _DEAD.search(message):
        raise engine_died()
    if status == 500 and message.startswith("Internal server error") and _has_grammar(body):
        # vLLM 0.32 with xgrammar, for a grammar such as "root ::= root" that permits no token at all.
        raise Invalid(
            "The grammar in 'structured_outputs' permits no text: correct the grammar.", param="structured_outputs"
        )
    if "--tool-call-parser" in message:
        raise no_tools(model)
    translated = dict(error)
    if (length := _match_length(message)) is not None:
        return translated | _too_long(length, path)
    if (tokens := _TOO_MANY_TOKENS.search(message)) is not None:
        return translated | _too_many_tokens(tokens, body)
    if (validation := describe_validation_errors(message, body)) is not None:
        return translated | validation
    param = _public_param(error["param"], path) or _guess_param(message, body)
    return translated | {"message": clean_message(message, status), "param": param}


def engine_died() -> Unavailable:
    """The error for a request whose engine died while it ran."""
    return Unavailable(_DEAD_MESSAGE, code="upstream_error", retry_after=2)


def clean_message(message: str, status: int) -> str:
    """An engine's message in one line, without the sentences that name vLLM's internals."""
    if status >= 500 and _DEAD.search(message):
        return _DEAD_MESSAGE
    for start, sentence in _KNOWN:
        if start in message:
            return sentence
    plain = _GRAMMAR_PLACE.sub("", _SUFFIX.sub("", message.strip()))
    sentences = [" ".join(part.split()) for part in _SENTENCE.split(plain)]
    public = " ".join(part for part in sentences if part and not _INTERNAL.search(part))
    if not public:
        return "The model's engine rejected the request." if status < 500 else "The model's engine failed."
    if len(public) > _MAX_CHARS:
        return public[:_MAX_CHARS].rstrip() + "…"
    return public if public[-1] in ".!?…" else f"{public}."


def _match_length(message: str) -> re.Match[str] | None:
    return next((match for pattern in _LENGTHS if (match := pattern.search(message))), None)


def _too_long(length: re.Match[str], path: str) -> dict[str, Any]:
    """OpenAI's error for a prompt that is too long; clients check its code and the beginning of its message.

    Clients of /v1/messages check for Anthropic's message.
    """
    param = _PROMPT_PARAMS.get(path, "messages")
    used = length["used"].replace("input tokens", "tokens")
    if used.endswith("characters"):
        # vLLM does not tokenize a prompt that is far too long.
        used = f"at least {int(length['limit']) + 1} tokens ({used})"
    used = used if not used.isdigit() else f"{used} tokens"
    if path.startswith("/v1/messages"):
        return {
            "message": f"prompt is too long: {used} > {length['limit']} maximum",
            "type": "invalid_request_error",
            "param": param,
            "code": "context_length_exceeded",
        }
    plural = "your messages resulted" if param == "messages" else f"your {param} resulted"
    return {
        "message": f"This model's maximum context length is {length['limit']} tokens. However, {plural} in {used}. "
        f"Please reduce the length of the {param}.",
        "type": "invalid_request_error",
        "param": param,
        "code": "context_length_exceeded",
    }


def _too_many_tokens(match: re.Match[str], body: bytes) -> dict[str, Any]:
    param = match["param"]
    # vLLM has another name for max_tokens of /v1/messages.
    names = _top_level(body)
    if param not in names:
        param = next((name for name in ("max_tokens", "max_output_tokens") if name in names), param)
    return {
        "message": f"{param} is too large: {match['asked']}. This model supports at most {match['limit']} tokens, "
        f"prompt and answer together, whereas you provided {match['asked']}.",
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_value",
    }


def _top_level(body: bytes) -> frozenset[str]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return frozenset()
    return frozenset(content) if isinstance(content, dict) else frozenset()


def _has_grammar(body: bytes) -> bool:
    if b'"structured_outputs"' not in body:
        return False
    constraints = orjson.loads(body).get("structured_outputs")
    return isinstance(constraints, dict) and isinstance(constraints.get("grammar"), str)


def _guess_param(message: str, body: bytes) -> str | None:
    """The field that a message is about: its first word, as in "n must be at least 1, got 0.", or by its topic."""
    names = _top_level(body)
    first = _FIRST_WORD.match(message)
    if first is not None and first[1] in names:
        return first[1]
    about = next((fields for mark, fields in _TOPICS if mark in message), ())
    return next((name for name in about if name in names), None)


def _public_param(param: Any, path: str) -> str | None:
    """vLLM's parameter under the name that clients use."""
    if param in ("input_text", "input_tokens"):
        return _PROMPT_PARAMS.get(path, "messages")
    return param if isinstance(param, str) else None
