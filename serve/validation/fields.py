"""Which request fields may reach an engine or an upstream: one table. It knows names; bounds are
`serve.validation.field_limits`'s.

vLLM's requests can carry far more than OpenAI's: a chat template (code), media addresses (requests from inside our
network), tensors, huge fan-outs. So an engine gets only the fields listed here; what is dangerous is refused with a
400 that names it, for everybody and wherever it stands; anything else is dropped for an engine and forwarded to a
hosted upstream. Free are the places where names are the client's own: the parameters of tools, JSON schemas,
metadata, documents, and of course text. tests/serve/test_fields.py holds each field of vLLM's own request models
against these tables.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import Invalid
from serve.validation.field_limits import BOUNDS, check_bounds, check_number


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING = _names(
    # OpenAI's
    """model stream temperature top_p presence_penalty frequency_penalty logit_bias seed stop user"""
    # sampling that vLLM adds
    """ top_k min_p repetition_penalty stop_token_ids ignore_eos include_stop_str_in_output skip_special_tokens
    structured_outputs cache_salt"""
)
_GENERATING = _SAMPLING | _names(
    """stream_options n max_tokens logprobs response_format
    length_penalty min_tokens bad_words allowed_token_ids logprob_token_ids spaces_between_special_tokens
    truncate_prompt_tokens truncation_side add_special_tokens thinking_token_budget stream_interval
    return_token_ids return_tokens_as_token_ids"""
)
_CHAT = _GENERATING | _names(
    """messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort echo
    add_generation_prompt continue_final_message chat_template_kwargs include_reasoning documents"""
)
_COMPLETIONS = _GENERATING | _names("prompt suffix echo best_of")
_EMBEDDINGS = _names(
    """model input encoding_format dimensions user truncate_prompt_tokens truncation_side add_special_tokens
    cache_salt"""
)
_RESPONSES = _SAMPLING | _names(
    """input instructions include max_output_tokens max_tool_calls metadata parallel_tool_calls previous_response_id
    prompt_cache_key reasoning include_reasoning service_tier store background text tool_choice tools top_logprobs
    truncation chat_template_kwargs"""
)

ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "/v1/chat/completions": _CHAT,
        "/v1/completions": _COMPLETIONS,
        "/v1/embeddings": _EMBEDDINGS,
        "/v1/responses": _RESPONSES,
    }
)

DANGEROUS: Mapping[str, str] = MappingProxyType(
    {
        "chat_template": "a template is code: it is the server's to choose",
        "media_io_kwargs": "how media are read is the server's to choose",
        "mm_processor_kwargs": "how media are read is the server's to choose",
        "prompt_embeds": "tensors are not accepted",
        "prompt_logprobs": "it costs memory for every token of the prompt",
        "logits_processors": "it names code to run",
        "kv_transfer_params": "it is for engines among themselves",
        "ec_transfer_params": "it is for engines among themselves",
        "vllm_xargs": "it is for engines among themselves",
        "priority": "the order of work is the server's to choose",
        "request_id": "the server numbers requests itself",
        "api_base": "where a model is, is the server's to know",
        "base_url": "where a model is, is the server's to know",
        "api_key": "a key travels in the Authorization header",
    }
)

_DANGEROUS_NAMES = frozenset(DANGEROUS)
_BOUNDED = frozenset(BOUNDS)
_NOWHERE: frozenset[str] = frozenset()
_SCHEMA = _names("schema")
# Top-level field -> the names in it under which everything is the client's own. None: all of the field is.
_FREE: Mapping[str, frozenset[str] | None] = MappingProxyType(
    {
        "tools": _names("parameters input_schema output_schema"),
        "functions": _names("parameters"),
        "response_format": _SCHEMA,
        "text": _SCHEMA,
        "structured_outputs": _names("json"),
        "guided_json": None,
        "prompt": None,
        "metadata": None,
        "documents": None,
        "logit_bias": None,
        "messages": _names("arguments"),
        "input": _names("arguments"),
    }
)
_NESTS = frozenset({dict, list})


def check(body: dict[str, Any]) -> None:
    """Refuses what must not pass, whoever it is for.

    Raises:
        Invalid: the line says why, `param` names the field.
    """
    _check_names(body)
    for name, value in body.items():
        kind = type(value)
        if kind is dict or kind is list:
            free = _FREE.get(name, _NOWHERE)
            if name == "response_format" and kind is dict and value.get("type") == "structural_tag":
                free = _SCHEMA | {"json_schema"}
            if free is not None:
                _walk(value, free)
    check_bounds(body)


def check_media(body: dict[str, Any]) -> None:
    """Refuses message parts that would have an engine fetch an address or unpack a tensor.

    Raises:
        Invalid: `param` is `messages`, `input` or `tools`.
    """
    for field in ("messages",) if "messages" in body else ("input", "tools"):
        value = body.get(field)
        if type(value) is list:
            for part in _parts(value, _FREE[field] or _NOWHERE):
                _check_part(part, field)


def for_engine(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The fields that an engine gets; the very same object where nothing had to go."""
    allowed = ALLOWED[path]
    if body.keys() <= allowed:
        return body
    return {name: value for name, value in body.items() if name in allowed}


def _walk(value: Any, free: frozenset[str]) -> None:
    """Looks at every object in a value, but for what stands under a free name."""
    for node in _parts(value, free):
        _check_names(node)


def _parts(value: Any, free: frozenset[str]) -> list[dict[str, Any]]:
    """Every object in a value, but for what stands under a free name.

    Messages of a role and a text, nearly all there are, are left out.
    """
    found = []
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if type(node) is dict:
            found.append(node)
            waiting += [inner for name, inner in node.items() if type(inner) in _NESTS and name not in free]
        # Long lists are of numbers or of texts.
        elif not _NESTS.isdisjoint(map(type, node)):
            waiting += [
                inner
                for inner in node
                if type(inner) is list
                or (
                    type(inner) is dict
                    and not (len(inner) == 2 and "role" in inner and type(inner.get("content")) is str)
                )
            ]
    return found


def _check_names(node: dict[str, Any]) -> None:
    if not _DANGEROUS_NAMES.isdisjoint(node):
        for name in node:
            # A null is what many clients send for «not set».
            if name in _DANGEROUS_NAMES and node[name] is not None:
                raise Invalid(f"{name!r} is not accepted: {DANGEROUS[name]}.", param=name, code="unsupported_parameter")
    if not _BOUNDED.isdisjoint(node):
        for name, most in BOUNDS.items():
            check_number(node.get(name), name, most)


def _check_part(part: dict[str, Any], field: str) -> None:
    kind = part.get("type")
    embeds = isinstance(kind, str) and kind.endswith("_embeds")
    for name, value in part.items():
        if embeds or name.endswith("_embeds"):
            raise Invalid(f"Embeddings are not accepted in {field}.", param=field, code="unsupported_parameter")
        if name.endswith("_url"):
            url = value.get("url") if isinstance(value, dict) else value
            if isinstance(url, str) and not url.startswith("data:"):
                raise Invalid(
                    "Media are accepted as data: URLs only: the server fetches nothing for a request.",
                    param=field,
                    code="unsupported_parameter",
                )
