"""How much a request may ask for, and of which type: a table each for numbers and lengths. Names are
`serve.validation.fields`'s.

What vLLM answers with a 400 of its own (a temperature of 9, five stop strings) goes through to it; bounded here is what
would cost memory or time before vLLM looks, and what the gateway itself goes by.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from models.errors import Invalid

# Inclusive upper bounds of whole numbers. OpenAI's own are the same where it has them.
BOUNDS: Mapping[str, int] = MappingProxyType({"n": 128, "best_of": 128, "top_logprobs": 20})
# Completions ask for log-probabilities by number (-1: of the whole vocabulary), chats by true.
MOST_LOGPROBS = 20
# How many entries a list or an object may have, of those that are gone through for each token or kept with the request.
LENGTHS: Mapping[str, int] = MappingProxyType(
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
# What the gateway itself goes by must be of its very type: vLLM also reads "true" as true and "9" as 9, and would
# stream to who awaits one answer, or write more than a key's limits have counted.
_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_MOST_TOKENS = 2**31 - 1
MOST_SEQUENCES = 1024  # prompts times n: each is a request of its own to the engine
MOST_INPUTS = 2048  # texts to embed at once, OpenAI's own bound
MOST_CHOICES = 1000  # vLLM's compiler gives up at 2,000 alternatives, with a 500
_GRAMMAR = 65_536  # characters of a regular expression or a grammar, which the engine compiles

# What transformers' apply_chat_template takes beside the template's own variables; none is a client's to set.
_TEMPLATE_KWARGS = frozenset(
    [
        "chat_template",
        "tokenize",
        "tokenizer_kwargs",
        "conversation",
        "padding",
        "truncation",
        "max_length",
        "return_tensors",
        "return_dict",
        "return_assistant_tokens_mask",
    ]
)
_SIZED = frozenset(LENGTHS)
_ODD = _SIZED | {
    "n", "best_of", "prompt", "logprobs", "input", "encoding_format", "structured_outputs", "chat_template_kwargs",
}  # fmt: skip
_TYPED = frozenset({"stream", "background", *_TOKENS})


def check_bounds(body: dict[str, Any]) -> None:
    """Refuses what is too much, or of a type that the gateway would read in another way than vLLM.

    Raises:
        Invalid: the line says why, `param` names the field.
    """
    if not _TYPED.isdisjoint(body):
        _check_types(body)
    if not _ODD.isdisjoint(body):
        _check_sizes(body)


def check_number(value: Any, name: str, most: int) -> None:
    """Raises Invalid for what is neither null nor a whole number from 0 to `most`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise Invalid(f"{name!r} must be a whole number from 0 to {most}.", param=name)


def _check_types(body: dict[str, Any]) -> None:
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        raise Invalid("'stream' must be true or false.", param="stream")
    if body.get("background"):
        # It would run on with nobody there who counts it or could fetch it.
        raise Invalid(
            "Answers in the background are not kept here: wait for the answer, or stream it.",
            param="background",
            code="unsupported_parameter",
        )
    for name in _TOKENS:
        value = body.get(name)
        if value is not None and not (type(value) is int and 0 <= value <= _MOST_TOKENS):
            raise Invalid(f"{name!r} must be a whole number from 0 to {_MOST_TOKENS}.", param=name)


def _check_sizes(body: dict[str, Any]) -> None:
    for name in _SIZED & body.keys():
        value = body[name]
        if isinstance(value, (list, dict)) and len(value) > LENGTHS[name]:
            raise Invalid(f"{name!r} may have {LENGTHS[name]} entries at most.", param=name)
    logprobs = body.get("logprobs")
    if not isinstance(logprobs, bool):
        check_number(logprobs, "logprobs", MOST_LOGPROBS)
    prompts = body.get("prompt")
    if isinstance(prompts, list) and prompts and not isinstance(prompts[0], int):
        sequences = len(prompts) * max(body.get("n") or 1, body.get("best_of") or 1)
        if sequences > MOST_SEQUENCES:
            raise Invalid(f"Prompts times n may be {MOST_SEQUENCES} at most, not {sequences}.", param="prompt")
    _check_input(body)
    _check_guides(body)


def _check_input(body: dict[str, Any]) -> None:
    texts = body.get("input")
    if isinstance(texts, list) and len(texts) > MOST_INPUTS and not isinstance(texts[0], int):
        raise Invalid(f"'input' may have {MOST_INPUTS} entries at most.", param="input")
    encoding = body.get("encoding_format")
    # vLLM would send bytes that no SDK reads.
    if encoding is not None and encoding not in ("float", "base64"):
        raise Invalid("'encoding_format' must be float or base64.", param="encoding_format")


def _check_guides(body: dict[str, Any]) -> None:
    guides = body.get("structured_outputs")
    if guides is not None and not isinstance(guides, dict):
        # vLLM 0.32 answers this with a 500.
        raise Invalid("'structured_outputs' must be an object.", param="structured_outputs")
    if guides:
        if isinstance(guides.get("choice"), list) and len(guides["choice"]) > MOST_CHOICES:
            raise Invalid(f"'choice' may have {MOST_CHOICES} entries at most.", param="structured_outputs")
        for name in ("regex", "grammar", "structural_tag"):
            if isinstance(guides.get(name), str) and len(guides[name]) > _GRAMMAR:
                raise Invalid(f"{name!r} may have {_GRAMMAR} characters at most.", param="structured_outputs")
    template = body.get("chat_template_kwargs")
    if isinstance(template, dict) and not _TEMPLATE_KWARGS.isdisjoint(template):
        raise Invalid(
            "'chat_template_kwargs' may set the template's own variables, not choose the template or how it is used.",
            param="chat_template_kwargs",
            code="unsupported_parameter",
        )
