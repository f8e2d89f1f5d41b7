"""Which request fields may reach an engine or an upstream, by name. Limits on values are in
`serve.validation.field_limits`.

vLLM's requests accept far more than OpenAI's: a chat template (code), media addresses (requests from inside our
network), tensors, huge fan-outs. An engine therefore gets only the fields listed here. Dangerous fields are rejected
with a 400 at any depth, for hosted models too; unknown fields are dropped for an engine and forwarded to an upstream.
Names are not checked where they are the client's own: parameters of tools, JSON schemas, metadata, documents.
tests/serve/test_fields.py compares these tables with the fields of vLLM's own request models.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import Invalid
from serve.validation.field_limits import LIMITED, MAX_NUMBERS, check_limits, check_number


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING = _split(
    # OpenAI's
    """model stream temperature top_p presence_penalty frequency_penalty logit_bias seed stop user"""
    # sampling that vLLM adds
    """ top_k min_p repetition_penalty stop_token_ids ignore_eos include_stop_str_in_output skip_special_tokens
    structured_outputs cache_salt"""
)
_GENERATING = _SAMPLING | _split(
    """stream_options n max_tokens logprobs response_format
    length_penalty min_tokens bad_words allowed_token_ids logprob_token_ids spaces_between_special_tokens
    truncate_prompt_tokens truncation_side add_special_tokens thinking_token_budget stream_interval
    return_token_ids return_tokens_as_token_ids"""
)
_CHAT = _GENERATING | _split(
    """messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort echo
    add_generation_prompt continue_final_message chat_template_kwargs include_reasoning documents"""
)
_COMPLETIONS = _GENERATING | _split("prompt suffix echo best_of")
_EMBEDDINGS = _split(
    """model input encoding_format dimensions user truncate_prompt_tokens truncation_side add_special_tokens
    cache_salt"""
)
_RESPONSES = _SAMPLING | _split(
    """input instructions include max_output_tokens max_tool_calls metadata parallel_tool_calls previous_response_id
    prompt_cache_key reasoning include_reasoning service_tier store background text tool_choice tools top_logprobs
    truncation chat_template_kwargs"""
)

# Anthropic's API, which vLLM serves too.
_MESSAGES = _split(
    """model messages max_tokens metadata output_config thinking stop_sequences stream system temperature tool_choice
    tools top_k top_p cache_salt chat_template_kwargs"""
)
_COUNT_TOKENS = _split("model messages output_config system thinking tool_choice tools chat_template_kwargs")
_TOKENIZE = _split(
    """model prompt messages add_generation_prompt continue_final_message add_special_tokens return_token_strs tools
    chat_template_kwargs"""
)
_RERANK = _split(
    """model query documents top_n truncate_prompt_tokens truncation_side max_tokens_per_doc max_tokens_per_query user
    cache_salt chat_template_kwargs"""
)

ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "/v1/chat/completions": _CHAT,
        "/v1/completions": _COMPLETIONS,
        "/v1/embeddings": _EMBEDDINGS,
        "/v1/responses": _RESPONSES,
        "/v1/messages": _MESSAGES,
        "/v1/messages/count_tokens": _COUNT_TOKENS,
        "/v1/tokenize": _TOKENIZE,
        "/v1/rerank": _RERANK,
        "/v1/moderations": _split("model input"),
    }
)

DANGEROUS: Mapping[str, str] = MappingProxyType(
    {
        "chat_template": "a template is code, and the server chooses it",
        "media_io_kwargs": "the server chooses how media are read",
        "mm_processor_kwargs": "the server chooses how media are read",
        "prompt_embeds": "tensors are not accepted",
        "prompt_logprobs": "it takes memory for every token of the prompt",
        "logits_processors": "it names code to run",
        "kv_transfer_params": "it is for communication between engines",
        "ec_transfer_params": "it is for communication between engines",
        "vllm_xargs": "it is for communication between engines",
        "priority": "the server decides the order of requests",
        "request_id": "the server assigns request ids",
        "api_base": "the server knows where its models are",
        "base_url": "the server knows where its models are",
        "api_key": "send the key in the Authorization header",
    }
)

_DANGEROUS_NAMES = frozenset(DANGEROUS)
_BOUNDED = frozenset(MAX_NUMBERS)
_NOWHERE: frozenset[str] = frozenset()
_SCHEMA = _split("schema")
# Top-level field -> names below which everything is the client's own. None: the whole field is.
_FREE: Mapping[str, frozenset[str] | None] = MappingProxyType(
    {
        "tools": _split("parameters input_schema output_schema"),
        "functions": _split("parameters"),
        "response_format": _SCHEMA,
        "text": _SCHEMA,
        "structured_outputs": _split("json"),
        "guided_json": None,
        "prompt": None,
        "metadata": None,
        "documents": None,
        "logit_bias": None,
        # A tool call's arguments: `arguments` in OpenAI's API, `input` in Anthropic's.
        "messages": _split("arguments input input_schema"),
        "output_config": _SCHEMA,
        "input": _split("arguments"),
    }
)
_CONTAINERS = frozenset({dict, list})


def check_fields(body: dict[str, Any]) -> None:
    """Rejects fields that are not allowed for any model.

    Raises:
        Invalid: the message says why, `param` names the field.
    """
    _check_names(body)
    for name, value in body.items():
        kind = type(value)
        if kind is dict or kind is list:
            free = _FREE.get(name, _NOWHERE)
            if name == "response_format" and kind is dict and value.get("type") == "structural_tag":
                free = _SCHEMA | {"json_schema"}
            if free is not None:
                _check_nested(value, free)
    if not LIMITED.isdisjoint(body):
        check_limits(body)


def check_media(body: dict[str, Any]) -> None:
    """Rejects message parts that would make an engine fetch an address or unpack a tensor.

    Raises:
        Invalid: `param` is `messages`, `input` or `tools`.
    """
    for field in ("messages",) if "messages" in body else ("input", "tools"):
        value = body.get(field)
        if type(value) is list:
            for part in _iterate_objects(value, _FREE[field] or _NOWHERE):
                _check_part(part, field)


def select_engine_fields(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The fields that an engine gets; the same object if none had to be removed."""
    allowed = ALLOWED[path]
    if body.keys() <= allowed:
        return body
    return {name: value for name, value in body.items() if name in allowed}


def _check_nested(value: Any, free: frozenset[str]) -> None:
    """Checks every object in a value, except below a free name."""
    for node in _iterate_objects(value, free):
        _check_names(node)


def _iterate_objects(value: Any, free: frozenset[str]) -> list[dict[str, Any]]:
    """Every object in a value, except below a free name.

    Messages that consist of a role and a text, nearly all of them, are left out.
    """
    objects = []
    pending = [value]
    while pending:
        node = pending.pop()
        if type(node) is dict:
            objects.append(node)
            pending += [inner for name, inner in node.items() if type(inner) in _CONTAINERS and name not in free]
        # Long lists contain numbers or texts.
        elif not _CONTAINERS.isdisjoint(map(type, node)):
            pending += [
                inner
                for inner in node
                if type(inner) is list
                or (
                    type(inner) is dict
                    and not (len(inner) == 2 and "role" in inner and type(inner.get("content")) is str)
                )
            ]
    return objects


def _check_names(node: dict[str, Any]) -> None:
    if not _DANGEROUS_NAMES.isdisjoint(node):
        for name in node:
            # Many clients send null for a field that is not set.
            if name in _DANGEROUS_NAMES and node[name] is not None:
                raise Invalid(f"{name!r} is not accepted: {DANGEROUS[name]}.", param=name, code="unsupported_parameter")
    if not _BOUNDED.isdisjoint(node):
        for name, most in MAX_NUMBERS.items():
            check_number(node.get(name), name, most)


def _check_part(part: dict[str, Any], field: str) -> None:
    kind = part.get("type")
    embeds = isinstance(kind, str) and kind.endswith("_embeds")
    for name, value in part.items():
        if embeds or name.endswith("_embeds"):
            raise Invalid(f"Embeddings are not accepted in {field}.", param=field, code="unsupported_parameter")
        # In Anthropic's API a URL is {"type": "url", "url": …}.
        if name.endswith("_url") or (name == "url" and kind == "url"):
            url = value.get("url") if isinstance(value, dict) else value
            if isinstance(url, str) and not url.startswith("data:"):
                raise Invalid(
                    "Media are only accepted as data: URLs, because the server fetches nothing for a request.",
                    param=field,
                    code="unsupported_parameter",
                )
