"""Limits on the values of request fields: numbers, list lengths, types, schemas. `serve.validation.fields` has names.

What vLLM rejects with a 400 of its own (a temperature of 9, five stop strings) is passed on to it. Limited here is what
would cost memory or time before vLLM checks it, and what the gateway itself relies on. Schemas were measured with vLLM
0.32 and its compilers on 2026-11-22: `{"type": "array", "minItems": 1000000000}`, a request of 100 bytes, took the
engine 34 s and 20 GB until the machine killed it; 100,000 take 0.03 s and 17 MB. The compilers themselves limit lengths
of texts, patterns and numbers; vLLM limits the nesting depth of a schema.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from models.errors import Invalid
from models.http.json_bounds import parse_bounded

# Inclusive upper bounds of whole numbers. OpenAI's are the same where it has them.
MAX_NUMBERS: Mapping[str, int] = MappingProxyType({"n": 128, "best_of": 128, "top_logprobs": 20})
# Completions request log probabilities as a number (-1: the whole vocabulary), chats as true.
MAX_LOGPROBS = 20
# Maximum entries of lists and objects that are scanned for each token or kept with the request.
MAX_LENGTHS: Mapping[str, int] = MappingProxyType(
    {
        "logit_bias": 1024,
        "stop": 64,
        "stop_token_ids": 256,
        "bad_words": 256,
        "allowed_token_ids": 4096,
        "logprob_token_ids": 128,
        "tools": 256,
        "documents": 1024,
    }
)
# Fields that the gateway relies on must have their exact type. vLLM also reads "true" as true and "9" as 9, so it would
# stream to a client that awaits one response, or generate more than a key's limits have counted.
_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MAX_TOKENS = 2**31 - 1
MAX_SEQUENCES = 1024  # prompts times n: each is its own request in the engine
MAX_INPUTS = 2048  # texts per embeddings request, as at OpenAI
MAX_CHOICES = 1000  # at 2,000 alternatives vLLM's compiler fails with a 500
_MAX_GRAMMAR_CHARS = 65_536  # characters of a regular expression or a grammar, which the engine compiles

# Arguments of transformers' apply_chat_template beside the template's own variables. Clients may not set them.
_TEMPLATE_KWARGS = frozenset(
    {
        "chat_template", "tokenize", "tokenizer_kwargs", "conversation", "padding", "truncation", "max_length",
        "return_tensors", "return_dict", "return_assistant_tokens_mask",
    }
)  # fmt: skip
_LENGTH_CHECKED = frozenset(MAX_LENGTHS)
_SIZE_CHECKED = _LENGTH_CHECKED | {
    "n", "best_of", "prompt", "logprobs", "input", "encoding_format", "structured_outputs", "chat_template_kwargs",
}  # fmt: skip
_TYPE_CHECKED = frozenset({"stream", "background", *_TOKENS})
# `check_limits` has nothing to check in a body without these.
LIMITED = _TYPE_CHECKED | _SIZE_CHECKED
MAX_ITEMS = 100_000
_COUNTS = frozenset({"minItems", "maxItems", "minContains", "maxContains", "minProperties", "maxProperties"})
_COUNT_NAMES = (b"Items", b"Contains", b"minProperties", b"maxProperties")
# A repetition in a regular expression or a grammar, or a count in a schema inside a grammar.
_REPEATED = re.compile(r"[{,:]\s*\d{6,}")
_CONTAINERS = frozenset({dict, list})
_SCHEMA_FIELDS = ("response_format", "text", "structured_outputs", "tools", "output_config")


def check_limits(body: dict[str, Any]) -> None:
    """Rejects values that are too large, or of a type that vLLM would read differently from the gateway.

    Raises:
        Invalid: the message says why, `param` names the field.
    """
    if not _TYPE_CHECKED.isdisjoint(body):
        _check_types(body)
    if not _SIZE_CHECKED.isdisjoint(body):
        _check_sizes(body)


def check_number(value: Any, name: str, most: int) -> None:
    """Raises Invalid unless the value is null or a whole number from 0 to `most`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Invalid(f"{name!r} must be a whole number from 0 to {most}.", param=name)


def _check_types(body: dict[str, Any]) -> None:
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise Invalid("'stream' must be true or false.", param="stream")
    if body.get("background"):
        # It would keep running, uncounted and out of reach for its client.
        raise Invalid(
            "Background responses are not supported: wait for the response, or stream it.",
            param="background",
            code="unsupported_parameter",
        )
    for name in _TOKENS:
        value = body.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= _MAX_TOKENS):
            raise Invalid(f"{name!r} must be a whole number from 0 to {_MAX_TOKENS}.", param=name)


def _check_sizes(body: dict[str, Any]) -> None:
    for name in _LENGTH_CHECKED & body.keys():
        value = body[name]
        if isinstance(value, (list, dict)) and len(value) > MAX_LENGTHS[name]:
            raise Invalid(f"{name!r} may have at most {MAX_LENGTHS[name]} entries.", param=name)
    logprobs = body.get("logprobs")
    if not isinstance(logprobs, bool):
        check_number(logprobs, "logprobs", MAX_LOGPROBS)
    prompts = body.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        sequences = len(prompts) * max(body.get("n") or 1, body.get("best_of") or 1)
        if sequences > MAX_SEQUENCES:
            raise Invalid(f"Prompts times n may be at most {MAX_SEQUENCES}, not {sequences}.", param="prompt")
    _check_input(body)
    _check_structured_outputs(body)


def _check_input(body: dict[str, Any]) -> None:
    texts = body.get("input")
    if isinstance(texts, list) and len(texts) > MAX_INPUTS and not isinstance(texts[0], int):
        raise Invalid(f"'input' may have at most {MAX_INPUTS} entries.", param="input")
    encoding = body.get("encoding_format")
    # With other values vLLM sends bytes that no SDK reads.
    if encoding is not None and encoding not in ("float", "base64"):
        raise Invalid("'encoding_format' must be float or base64.", param="encoding_format")


def _check_structured_outputs(body: dict[str, Any]) -> None:
    constraints = body.get("structured_outputs")
    if constraints is not None and not isinstance(constraints, dict):
        # vLLM 0.32 responds with a 500.
        raise Invalid("'structured_outputs' must be an object.", param="structured_outputs")
    if constraints:
        if isinstance(constraints.get("choice"), list) and len(constraints["choice"]) > MAX_CHOICES:
            raise Invalid(f"'choice' may have at most {MAX_CHOICES} entries.", param="structured_outputs")
        for name in ("regex", "grammar", "structural_tag"):
            if isinstance(constraints.get(name), str) and len(constraints[name]) > _MAX_GRAMMAR_CHARS:
                raise Invalid(f"{name!r} may have at most {_MAX_GRAMMAR_CHARS} characters.", param="structured_outputs")
    template = body.get("chat_template_kwargs")
    if isinstance(template, dict) and not _TEMPLATE_KWARGS.isdisjoint(template):
        raise Invalid(
            "'chat_template_kwargs' may only set the template's own variables.",
            param="chat_template_kwargs",
            code="unsupported_parameter",
        )


def check_schemas(body: dict[str, Any], also: tuple[str, ...] = ()) -> None:
    """Rejects counts that are too large to compile. For requests to engines.

    Args:
        also: additional fields that may contain schemas.

    Raises:
        Invalid: `param` names the field that holds the schema or grammar.
    """
    for name in _SCHEMA_FIELDS + also:
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
        return parse_bounded(text)
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
