"""Tools, functions and constraints in a request to an engine: sent, translated, or a 400; never dropped silently."""

from typing import Any

import pytest

from models.errors import Invalid
from serve.validation.legacy_functions import translate_frame, translate_request, translate_response, uses_functions
from serve.validation.tool_fields import check_tools, constrain_forced_call
from serve.validation.unsupported_fields import translate_fields

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES = "/v1/messages"
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOL = {"type": "function", "function": WEATHER}
FLAT = {"type": "function"} | WEATHER


@pytest.mark.parametrize(
    ("path", "body", "param", "code"),
    [
        (CHAT, {"tools": []}, "tools", "empty_array"),
        (CHAT, {"tools": [TOOL]}, "tools", "unsupported_parameter"),
        (CHAT, {"tools": [TOOL], "tool_choice": "required"}, "tools", "unsupported_parameter"),
        (RESPONSES, {"tools": [FLAT], "tool_choice": "required"}, "tools", "unsupported_parameter"),
        (RESPONSES, {"tools": [FLAT], "tool_choice": {"type": "function", "name": "weather"}}, "tools",
         "unsupported_parameter"),
        (RESPONSES, {"tools": [FLAT], "tool_choice": {"type": "web_search"}}, "tool_choice", "unsupported_parameter"),
        (RESPONSES, {"tools": [FLAT], "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": []}},
         "tool_choice", "unsupported_parameter"),
        (RESPONSES, {"tools": [FLAT, {"type": "web_search"}]}, "tools[1].type", "unsupported_parameter"),
        (MESSAGES, {"tools": [{"name": "weather", "input_schema": {}}]}, "tools", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_unsupported_tools_are_a_400(path: str, body: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_tools(path, body, "talks", supported=False)
    assert (refused.value.param, refused.value.code) == (param, code)
    if code == "empty_array":
        assert refused.value.message == (
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead."
        )
    if param == "tools" and code == "unsupported_parameter":
        assert "--tool-call-parser" in refused.value.message


def test_tools_that_are_not_to_be_called_are_accepted() -> None:
    check_tools(CHAT, {"tools": [TOOL], "tool_choice": "none"}, "talks", supported=False)
    check_tools(RESPONSES, {"tools": [], "tool_choice": "auto"}, "talks", supported=False)
    check_tools(RESPONSES, {"tools": [FLAT], "tool_choice": "required"}, "talks", supported=True)


@pytest.mark.parametrize(
    ("path", "tool", "choice"),
    [
        (CHAT, TOOL, {"type": "function", "function": {"name": "time"}}),
        (RESPONSES, FLAT, {"type": "function", "name": "time"}),
        (MESSAGES, {"name": "weather", "input_schema": {}}, {"type": "tool", "name": "time"}),
    ],
)
def test_a_choice_of_a_tool_that_is_not_there_is_a_400_in_openai_s_words(
    path: str, tool: dict[str, Any], choice: dict[str, Any]
) -> None:
    with pytest.raises(Invalid, match=r"^Tool choice 'time' not found in 'tools' parameter\.$") as refused:
        check_tools(path, {"tools": [tool], "tool_choice": choice}, "calls", supported=True)
    assert refused.value.param == "tool_choice"


def test_malformed_tools_and_choices_are_no_error_of_parley() -> None:
    for choice in (
        {"type": "function"},
        {"type": "function", "function": 3},
        "function",
        {"type": "function", "name": 3},
    ):
        check_tools(
            CHAT, {"tools": [3, None, {"type": []}, {"function": []}], "tool_choice": choice}, "m", supported=True
        )
    with pytest.raises(Invalid, match="tool_choice of type"):
        check_tools(RESPONSES, {"tools": [FLAT], "tool_choice": {"type": []}}, "calls", supported=True)


def test_the_arguments_of_a_forced_call_fit_their_schema() -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        forced = constrain_forced_call(CHAT, {"tools": [TOOL], "tool_choice": choice})
        assert forced["tools"][0]["function"]["strict"] is True
        assert forced.get("parallel_tool_calls") is (None if choice == "required" else False)
    toy = constrain_forced_call(CHAT, {"tools": [TOOL], "tool_choice": "required"}, toy=True)
    assert toy["parallel_tool_calls"] is False
    both = {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": True}
    assert constrain_forced_call(CHAT, both, toy=True)["parallel_tool_calls"] is True
    any_tool = {"tools": [{"name": "weather"}], "tool_choice": {"type": "any"}}
    assert constrain_forced_call(MESSAGES, any_tool, toy=True)["tool_choice"]["disable_parallel_tool_use"] is True
    loose = {"tools": [{"type": "function", "function": WEATHER | {"strict": False}}], "tool_choice": "required"}
    assert constrain_forced_call(CHAT, loose) == loose
    free = {"tools": [TOOL], "tool_choice": "auto"}
    assert constrain_forced_call(CHAT, free) is free
    assert constrain_forced_call(RESPONSES, {"tools": [FLAT], "tool_choice": "required"})["tools"][0]["strict"] is True
    request = {"tools": [{"name": "weather"}], "tool_choice": {"type": "any"}}
    assert constrain_forced_call(MESSAGES, request)["tools"][0]["strict"] is True
    assert "strict" not in WEATHER


def test_functions_become_tools() -> None:
    body = {
        "model": "m", "functions": [WEATHER], "function_call": {"name": "weather"},
        "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": "{}"}},
            {"role": "function", "name": "weather", "content": "rain"},
            {"role": "assistant", "content": "It rains.", "function_call": None},
        ],
    }  # fmt: skip
    assert uses_functions(body)
    called = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    assert translate_request(body) == {
        "model": "m", "tools": [TOOL], "parallel_tool_calls": False,
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
            {"role": "assistant", "content": "It rains."},
        ],
    }  # fmt: skip
    assert not uses_functions({"messages": [{"role": "user", "content": "weather?"}]})
    for mixed in ({"functions": [WEATHER], "tools": [TOOL]}, {"function_call": "auto"}, {"functions": []}):
        with pytest.raises(Invalid, match="function"):
            translate_request(mixed)


def test_tool_calls_become_function_calls() -> None:
    function = {"name": "weather", "arguments": "{}"}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": function}]}
    content = {"choices": [{"message": message, "finish_reason": "tool_calls"}]}
    assert translate_response(content)["choices"] == [
        {"message": {"role": "assistant", "content": None, "function_call": function}, "finish_reason": "function_call"}
    ]
    frame = b'data: {"choices":[{"delta":{"tool_calls":[{"index":%d,"id":"c","function":{"arguments":"{"}}]}}]}'
    assert translate_frame(frame % 0) == b'data: {"choices":[{"delta":{"function_call":{"arguments":"{"}}}]}'
    assert translate_frame(frame % 1) == b'data: {"choices":[{"delta":{}}]}'
    text_frame = b'data: {"choices":[{"delta":{"content":"tool_calls"}}]}'
    assert translate_frame(text_frame).endswith(b'{"choices":[{"delta":{"content":"tool_calls"}}]}')


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (CHAT, {"use_beam_search": True}, "use_beam_search"),
        (CHAT, {"grammar": "root ::= a"}, "grammar"),
        (CHAT, {"modalities": ["text", "audio"]}, "modalities"),
        (CHAT, {"guided_choice": ["a"], "guided_regex": "a"}, "guided_regex"),
        (CHAT, {"guided_choice": ["a"], "structured_outputs": {"regex": "a"}}, "guided_choice"),
        (CHAT, {"guided_choice": ["a"] * 2000}, "structured_outputs"),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
         "response_format.json_schema.schema"),
        (CHAT, {"response_format": {"type": "json_schema", "schema": {}}}, "response_format.json_schema"),
        (COMPLETIONS, {"max_completion_tokens": 5}, "max_completion_tokens"),
        (RESPONSES, {"response_format": {"type": "json_object"}}, "response_format"),
        (RESPONSES, {"max_tokens": 5}, "max_tokens"),
        (RESPONSES, {"guided_choice": ["a"]}, "guided_choice"),
        (MESSAGES, {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        (MESSAGES, {"guided_json": {}}, "guided_json"),
    ],
)  # fmt: skip
def test_fields_that_change_the_answer_are_not_dropped(path: str, body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as refused:
        translate_fields(path, body)
    assert refused.value.param == param


def test_old_constraints_work_under_their_new_name() -> None:
    for path in (CHAT, COMPLETIONS):
        for old, new in (("json", {"type": "string"}), ("regex", "a+"), ("choice", ["a"]), ("grammar", "root ::= a")):
            assert translate_fields(path, {f"guided_{old}": new, "n": 1}) == {"structured_outputs": {old: new}, "n": 1}
    schema = {"type": "object"}
    body = translate_fields(CHAT, {"response_format": {"type": "json_object", "schema": schema}})
    assert body["response_format"] == {"type": "json_schema", "json_schema": {"name": "response", "schema": schema}}


def test_unset_fields_are_accepted() -> None:
    body = {
        "use_beam_search": False,
        "audio": None,
        "best_of": 1,
        "modalities": ["text"],
        "store": True,
        "prediction": 1,
    }
    assert translate_fields(CHAT, body) is not None
    plain = {"model": "m", "messages": []}
    assert translate_fields(CHAT, plain) is plain
