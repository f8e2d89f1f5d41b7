"""Which request fields may reach an engine or an upstream: one table. It knows names and bounds, not meanings.

vLLM's requests can carry far more than OpenAI's: a chat template (code), media addresses (requests from inside our
network), tensors, huge fan-outs. So an engine gets only the fields listed here; what is dangerous is refused with a
400 that names it, for everybody; anything else is dropped for an engine and forwarded to a hosted upstream.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import Invalid


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SHARED = _names(
    # OpenAI's
    """model stream stream_options temperature top_p n stop max_tokens presence_penalty frequency_penalty
    logit_bias logprobs seed user response_format"""
    # sampling that vLLM adds
    """ top_k min_p repetition_penalty length_penalty min_tokens ignore_eos stop_token_ids bad_words
    include_stop_str_in_output skip_special_tokens spaces_between_special_tokens structured_outputs
    truncate_prompt_tokens add_special_tokens"""
)
_CHAT = _SHARED | _names(
    """messages max_completion_tokens top_logprobs tools tool_choice parallel_tool_calls reasoning_effort echo
    add_generation_prompt continue_final_message chat_template_kwargs"""
)
_COMPLETIONS = _SHARED | _names("prompt suffix echo best_of")

ALLOWED: Mapping[str, frozenset[str]] = MappingProxyType(
    {"/v1/chat/completions": _CHAT, "/v1/completions": _COMPLETIONS}
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
        "vllm_xargs": "it is for engines among themselves",
        "priority": "the order of work is the server's to choose",
        "request_id": "the server numbers requests itself",
        "api_base": "where a model is, is the server's to know",
        "base_url": "where a model is, is the server's to know",
        "api_key": "a key travels in the Authorization header",
    }
)

# Inclusive upper bounds. OpenAI's own are the same where it has them.
BOUNDS: Mapping[str, int] = MappingProxyType({"n": 128, "best_of": 128, "top_logprobs": 20})
_DANGEROUS_NAMES = frozenset(DANGEROUS)
_BOUNDED = frozenset(BOUNDS)


def check(body: dict[str, Any]) -> None:
    """Refuses what must not pass, whoever it is for.

    Raises:
        Invalid: the line says why, `param` names the field.
    """
    names = body.keys()
    if not _DANGEROUS_NAMES.isdisjoint(names):
        name = next(name for name in body if name in _DANGEROUS_NAMES)
        # A null is what many clients send for «not set».
        if body[name] is not None:
            raise Invalid(f"{name!r} is not accepted: {DANGEROUS[name]}.", param=name, code="unsupported_parameter")
    if not _BOUNDED.isdisjoint(names):
        _check_bounds(body)
    template = body.get("chat_template_kwargs")
    if isinstance(template, dict) and not {"chat_template", "tokenize"}.isdisjoint(template):
        raise Invalid(
            "'chat_template_kwargs' may not choose the template.",
            param="chat_template_kwargs",
            code="unsupported_parameter",
        )


def check_media(body: dict[str, Any]) -> None:
    """Refuses message parts that would have an engine fetch an address or unpack a tensor.

    Raises:
        Invalid: `param` is `messages`.
    """
    messages = body.get("messages")
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, dict):
                _check_part(part)


def for_engine(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The fields that an engine gets; the very same object where nothing had to go."""
    allowed = ALLOWED[path]
    if body.keys() <= allowed:
        return body
    return {name: value for name, value in body.items() if name in allowed}


def _check_bounds(body: dict[str, Any]) -> None:
    for name, most in BOUNDS.items():
        value = body.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise Invalid(f"{name!r} must be a whole number from 0 to {most}.", param=name)


def _check_part(part: dict[str, Any]) -> None:
    for name, value in part.items():
        if name.endswith("_embeds") or str(part.get("type", "")).endswith("_embeds"):
            raise Invalid("Embeddings are not accepted in messages.", param="messages", code="unsupported_parameter")
        if name.endswith("_url"):
            url = value.get("url") if isinstance(value, dict) else value
            if isinstance(url, str) and not url.startswith("data:"):
                raise Invalid(
                    "Media are accepted as data: URLs only: the server fetches nothing for a request.",
                    param="messages",
                    code="unsupported_parameter",
                )
