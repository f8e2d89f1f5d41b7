"""vLLM's errors in OpenAI's form. The texts were recorded from a real engine of vLLM 0.32."""

import re
from typing import Any

import orjson
import pytest

from models.errors import Invalid, Unavailable
from serve.gateway.engine_errors import translate_error
from tests.fakes.vllm_engine import DEAD, TOO_LONG

CHAT = "/v1/chat/completions"
INTERNAL = re.compile(r"vllm|pydantic|--|stack trace|<path>|EngineCore|Param\b|parameter=|validation errors?", re.I)


def entry(kind: str, place: str, text: str, more: str = "") -> str:
    quote = '"' if "'" in text else "'"
    return f"  {{'type': '{kind}', 'loc': 'body.{place}', 'msg': {quote}{text}{quote}, 'input': 'None'{more}}}"


def validation(*entries: str, count: int | None = None) -> str:
    return "\n".join([f"{count or len(entries)} validation errors:", *entries])


NULL_CONTENT = validation(
    *(
        line
        for kind in ("Developer", "System")
        for line in (
            entry("string_type", f"messages.0.ChatCompletion{kind}MessageParam.content", "Input should be a string"),
            entry("iterable_type", f"messages.0.ChatCompletion{kind}MessageParam.content", "Input should be iterable"),
            entry("literal_error", f"messages.0.ChatCompletion{kind}MessageParam.role", f"Input should be '{kind}'"),
        )
    ),
    entry("string_type", "messages.0.ChatCompletionUserMessageParam.content", "Input should be a valid string"),
    entry("iterable_type", "messages.0.ChatCompletionUserMessageParam.content", "Input should be iterable"),
    entry("missing", "messages.0.ChatCompletionToolMessageParam.tool_call_id", "Field required"),
    "  ...and 10 more errors",
    count=19,
)
PART = """2 validation errors for ValidatorIterator
0.ChatCompletionContentPartTextParam.{field}
  {text} [type={kind}, input_value={{'type': 'texta'}}, input_type=dict]
    For further information visit https://errors.pydantic.dev/2.14/v/missing
0.ChatCompletionContentPartImageParam.image_url
  Field required [type=missing, input_value={{'type': 'texta'}}, input_type=dict]"""


def parts(kind: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": kind}]}]}


@pytest.mark.parametrize(
    ("message", "body", "expected", "param", "code"),
    [
        (
            NULL_CONTENT, {"messages": [{"role": "user", "content": None}]},
            "Invalid type for 'messages[0].content': expected a string or an array, but got null instead.",
            "messages[0].content", "invalid_type",
        ),
        (
            validation(entry("missing", "messages", "Field required")), {},
            "Missing required parameter: 'messages'.", "messages", "missing_required_parameter",
        ),
        (
            validation(
                entry("string_type", "stop", "Input should be a valid string"),
                entry("too_long", "stop", "List should have at most 4 items after validation, not 100"),
            ),
            {"stop": ["a"] * 100},
            "Invalid 'stop': array too long. Expected an array with maximum length 4, but got an array with length 100 "
            "instead.",
            "stop", "array_above_max_length",
        ),
        (
            validation(
                entry("string_type", "stop", "Input should be a valid string"),
                entry("string_type", "stop.0", "Input should be a valid string"),
            ),
            {"stop": [1]},
            "Invalid type for 'stop[0]': expected a string, but got an integer instead.", "stop[0]", "invalid_type",
        ),
        (
            validation(
                entry("literal_error", "response_format.type", "Input should be 'text' or 'json_schema'"),
                entry("literal_error", "response_format.type", "Input should be 'structural_tag'"),
                entry("missing", "response_format.format", "Field required"),
            ),
            {"response_format": {"type": "regex", "pattern": "a"}},
            "Invalid value for 'response_format.type': 'regex'. Supported values are: 'text' or 'json_schema', "
            "'structural_tag'.",
            "response_format.type", "invalid_value",
        ),
        (
            PART.format(field="text", text="Field required", kind="missing"), parts("text"),
            "Missing required parameter: 'messages[0].content[0].text'.", "messages[0].content[0].text",
            "missing_required_parameter",
        ),
        (
            PART.format(field="type", text="Input should be 'text'", kind="literal_error"), parts("texta"),
            "Invalid value for 'messages[0].content[0].type': 'texta'. Supported values are: 'text'.",
            "messages[0].content[0].type", "invalid_value",
        ),
        (
            "temperature must be in [0, 2], got 9.0. (parameter=temperature, value=9.0)", {"temperature": 9},
            "temperature must be in [0, 2], got 9.0.", "temperature", None,
        ),
        (
            "n must be at most 128, got 500. To increase this limit, set the VLLM_MAX_N_SEQUENCES variable.",
            {"n": 500}, "n must be at most 128, got 500.", "n", None,
        ),
        (
            "thinking_token_budget is set but reasoning_config is not configured. Please set --reasoning-parser.",
            {"thinking_token_budget": 5}, "The model does not reason: send no 'thinking_token_budget'.",
            "thinking_token_budget", None,
        ),
        (
            "Failed to transform regex into a grammar: [05:42:17] <path>:83: Regex parsing error at position 2: no.",
            {"structured_outputs": {"regex": "("}},
            "Failed to transform regex into a grammar: Regex parsing error at position 2: no.",
            "structured_outputs", None,
        ),
        (
            "max_tokens=5000 cannot be greater than max_model_len=4096. Please request fewer output tokens.",
            {"max_tokens": 5000},
            "max_tokens is too large: 5000. This model supports at most 4096 tokens, prompt and answer together, "
            "whereas you provided 5000.",
            "max_tokens", "invalid_value",
        ),
        ("Please set --trust-everything to use vLLM.", {}, "The model's engine rejected the request.", None, None),
    ],
)  # fmt: skip
def test_an_error_is_one_sentence_with_the_right_parameter(
    message: str, body: dict[str, Any], expected: str, param: str | None, code: str | None
) -> None:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    translated = translate_error(error, 400, CHAT, orjson.dumps(body))
    assert (translated["message"], translated["param"], translated["code"]) == (expected, param, code)
    assert not INTERNAL.search(translated["message"])
    assert set(translated) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "param"),
    [(CHAT, "messages"), ("/v1/completions", "prompt"), ("/v1/responses", "input"), ("/v1/embeddings", "input")],
)
def test_a_prompt_that_is_too_long_has_openais_code_and_words(path: str, param: str) -> None:
    for text, used in (
        (TOO_LONG, "at least 4097 tokens"),
        (TOO_LONG.replace("at least 4097 input tokens", "5000 input tokens"), "5000 tokens"),
        (
            TOO_LONG.replace("at least 4097 input tokens", "100050 characters"),
            "at least 4097 tokens (100050 characters)",
        ),
        ("Input length (5000) exceeds model's maximum context length (4096).", "5000 tokens"),
    ):
        error = {"message": text, "type": "invalid_request_error", "param": "input_tokens", "code": None}
        translated = translate_error(error, 400, path, b"{}")
        assert (translated["code"], translated["param"]) == ("context_length_exceeded", param)
        assert translated["message"].startswith("This model's maximum context length is 4096 tokens. However, your ")
        assert f"resulted in {used}." in translated["message"]


def test_a_dead_engine_is_worth_another_try() -> None:
    error = {"message": DEAD, "type": "server_error", "param": None, "code": None}
    with pytest.raises(Unavailable) as dead:
        translate_error(error, 500, CHAT, b"{}")
    assert not INTERNAL.search(dead.value.message)
    assert dead.value.retry_after


def test_a_grammar_that_permits_nothing_is_the_clients_mistake() -> None:
    error = {"message": "Internal server error", "type": "server_error", "param": None, "code": None}
    with pytest.raises(Invalid, match="permits no text") as refused:
        translate_error(error, 500, CHAT, b'{"structured_outputs":{"grammar":"root ::= root"}}')
    assert refused.value.param == "structured_outputs"
    assert translate_error(error, 500, CHAT, b"{}")["message"] == "Internal server error."


def test_a_missing_parser_is_reported_with_parleys_own_option() -> None:
    text = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    with pytest.raises(Invalid, match=r"'talks' does not support tools.*--tool-call-parser NAME") as refused:
        translate_error({"message": text, "param": None, "code": None}, 400, CHAT, b"{}", "talks")
    assert "--enable" not in refused.value.message
