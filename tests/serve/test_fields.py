"""Fields of a request: refused, dropped or forwarded; each field of vLLM's request models is one of these."""

import ast
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from models.errors import Invalid
from serve.validation import field_limits, fields

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
MESSAGES, COUNT_TOKENS, TOKENIZE, RERANK = "/v1/messages", "/v1/messages/count_tokens", "/v1/tokenize", "/v1/rerank"
HELLO = [{"role": "user", "content": "hello"}]

# Harmless fields of vLLM's that are not forwarded, with the reason.
DROPPED = {
    "use_beam_search": "each beam is a request of its own; OpenAI has none",
    "watermarking": "the server's to choose",
    "session_id": "for routers of several engines",
    "routed_experts_prompt_start": "for those who train routers",
    "return_token_offsets": "vLLM's render routes alone read it",
    "return_prompt_text": "it shows what the server's template adds",
    "mm_payload": "vLLM's render routes alone read it",
    "return_mm_kwargs": "vLLM's render routes alone read it",
    "repetition_detection": "its cost for each token has no bound",
    "prompt": "of Responses: a template of prompts that OpenAI keeps",
    "enable_response_messages": "it shows what the server's template adds",
    "previous_input_messages": "raw messages of one model family",
    "padding": "to the longest length: cost without use",
    "use_activation": "the model's own setting",
    "embed_dtype": "for answers in bytes",
    "endianness": "for answers in bytes",
    "instruction": "of rerankers: it shows what the server's template adds",
}
VLLM_MODELS = {
    CHAT: [("openai/chat_completion/protocol.py", "ChatCompletionRequest")],
    COMPLETIONS: [("openai/completion/protocol.py", "CompletionRequest")],
    RESPONSES: [("openai/responses/protocol.py", "ResponsesRequest")],
    EMBEDDINGS: [
        ("pooling/embed/protocol.py", "EmbeddingCompletionRequest"),
        ("pooling/base/protocol.py", "PoolingBasicRequestMixin"),
        ("pooling/base/protocol.py", "CompletionRequestMixin"),
        ("pooling/base/protocol.py", "EncodingRequestMixin"),
        ("pooling/base/protocol.py", "EmbedRequestMixin"),
    ],
    MESSAGES: [("anthropic/protocol.py", "AnthropicMessagesRequest")],
    COUNT_TOKENS: [("anthropic/protocol.py", "AnthropicCountTokensRequest")],
    TOKENIZE: [
        ("serve/tokenize/protocol.py", "TokenizeCompletionRequest"),
        ("serve/tokenize/protocol.py", "TokenizeChatRequest"),
    ],
    RERANK: [
        ("pooling/scoring/protocol.py", "RerankRequest"),
        ("pooling/scoring/protocol.py", "ScoringRequestMixin"),
        ("pooling/base/protocol.py", "PoolingBasicRequestMixin"),
        ("pooling/base/protocol.py", "ClassifyRequestMixin"),
    ],
}
# OpenAI's fields that are in no request model of vLLM, which ignores them.
OPENAIS_ALONE = {"best_of"}


def vllms(path: str) -> set[str]:
    """The fields of vLLM's request model, read from its source: importing it would load torch."""
    root = find_spec("vllm")
    assert root is not None
    assert root.origin is not None
    names: set[str] = set()
    for file, name in VLLM_MODELS[path]:
        source = Path(root.origin).parent / "entrypoints" / file
        model = next(
            node
            for node in ast.walk(ast.parse(source.read_text()))
            if isinstance(node, ast.ClassDef) and node.name == name
        )
        names |= {
            node.target.id
            for node in model.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", sorted(VLLM_MODELS))
def test_every_field_of_vllm_is_allowed_dangerous_or_dropped(path: str) -> None:
    known = vllms(path)
    assert "model" in known
    kinds = [fields.ALLOWED[path], frozenset(fields.DANGEROUS), frozenset(DROPPED) - fields.ALLOWED[path]]
    assert known - frozenset().union(*kinds) == set(), (
        "say in serve/validation/fields.py, or in DROPPED here, what becomes of them"
    )
    assert fields.ALLOWED[path] - known <= OPENAIS_ALONE | {"chat_template_kwargs"}, "vLLM does not know these"
    assert not fields.ALLOWED[path] & fields.DANGEROUS.keys()


def test_what_is_dropped_is_really_vllms() -> None:
    assert DROPPED.keys() <= set().union(*map(vllms, VLLM_MODELS))


def refused(body: dict[str, Any], check=fields.check_fields) -> Invalid:
    with pytest.raises(Invalid) as error:
        check({"model": "m", **body})
    return error.value


@pytest.mark.parametrize("name", sorted(fields.DANGEROUS))
def test_each_dangerous_field_is_named(name: str) -> None:
    assert refused({name: "anything"}).param == name
    fields.check_fields({"model": "m", name: None})


PLACES = {
    "unknown object": lambda node: {"extra_body": node},
    "unknown list": lambda node: {"fallbacks": ["a", node]},
    "deep": lambda node: {"a": [{"b": {"c": [[node]]}}]},
    "message": lambda node: {"messages": [*HELLO, {"role": "user", "content": "x", **node}]},
    "part": lambda node: {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **node}]}]},
    "tool": lambda node: {"tools": [{"type": "function", "function": {"name": "f"}, **node}]},
    "function": lambda node: {"tools": [{"type": "function", "function": {"name": "f", **node}}]},
    "format": lambda node: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", **node}}},
    "not a schema": lambda node: {"extra": {"schema": node}},
    "stream options": lambda node: {"stream_options": node},
    "template": lambda node: {"chat_template_kwargs": {"inner": node}},
    "input": lambda node: {"input": [{"role": "user", "content": [node]}]},
    "nested metadata": lambda node: {"extra": {"metadata": node}},
}


@pytest.mark.parametrize("place", sorted(PLACES))
def test_dangerous_fields_are_refused_wherever_they_stand(place: str) -> None:
    for name in fields.DANGEROUS:
        assert refused(PLACES[place]({name: "x"})).param == name
        fields.check_fields({"model": "m", **PLACES[place]({name: None})})
    assert refused(PLACES[place]({"n": 10**9})).param == "n"


FREE = {
    "parameters": lambda node: {"tools": [{"type": "function", "function": {"name": "f", "parameters": node}}]},
    "flat parameters": lambda node: {"tools": [{"type": "function", "name": "f", "parameters": node}]},
    "functions": lambda node: {"functions": [{"name": "f", "parameters": node}]},
    "schema": lambda node: {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": node}}},
    "text schema": lambda node: {"text": {"format": {"type": "json_schema", "name": "x", "schema": node}}},
    "tag": lambda node: {"response_format": {"type": "structural_tag", "format": {"json_schema": node}}},
    "guided": lambda node: {"guided_json": node},
    "structured": lambda node: {"structured_outputs": {"json": node}},
    "metadata": lambda node: {"metadata": node},
    "documents": lambda node: {"documents": [node]},
    "arguments": lambda node: {
        "messages": [{"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": node}}]}]
    },
}


@pytest.mark.parametrize("place", sorted(FREE))
def test_names_inside_tools_schemas_metadata_and_text_are_free(place: str) -> None:
    names: dict[str, Any] = {name: {"type": "string", "image_url": "http://x"} for name in fields.DANGEROUS}
    body = {"model": "m", "messages": HELLO, **FREE[place](names | {"n": 10**9})}
    fields.check_fields(body)
    fields.check_media(body)


def test_names_in_text_are_text() -> None:
    fields.check_fields(
        {"model": "m", "messages": [{"role": "user", "content": '{"chat_template": "x", "n": 1000000}'}]}
    )
    fields.check_fields({"model": "m", "prompt": ["api_key base_url"], "user": "request_id", "stop": ["priority"]})


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 129), ("n", 10**12), ("n", -1), ("n", "5"), ("n", True), ("n", 1.5), ("top_logprobs", 21),
     ("best_of", 1000), ("logprobs", 21), ("logprobs", -1), ("logprobs", "all")],
)  # fmt: skip
def test_bounds(field: str, value: object) -> None:
    assert refused({field: value}).param == field
    fields.check_fields({"model": "m", field: 2})
    fields.check_fields({"model": "m", field: None})


@pytest.mark.parametrize("value", [1, 0, "true", "yes", [], {}, 1.0])
def test_whether_it_streams_is_set_by_true_or_false(value: object) -> None:
    """vLLM takes "true" and 1 for true, and would stream to a gateway that expects one answer."""
    assert refused({"stream": value}).param == "stream"
    for stream in (True, False, None):
        fields.check_fields({"model": "m", "stream": stream})


def test_nothing_runs_on_in_the_background() -> None:
    assert refused({"input": "x", "background": True}).param == "background"
    fields.check_fields({"model": "m", "input": "x", "background": False})


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens"])
def test_how_much_it_may_write_is_set_by_a_whole_number(name: str) -> None:
    """vLLM takes "9" for 9, which a key's limits would not count."""
    for value in ("9", 9.5, 9.0, True, -1, 2**31, 10**30, [9], {}):
        assert refused({name: value}).param == name
    for value in (None, 0, 1, 100_000):
        fields.check_fields({"model": "m", name: value})


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(field_limits.MAX_LENGTHS))
def test_long_lists_are_bounded(name: str) -> None:
    most = field_limits.MAX_LENGTHS[name]
    value: Any = {str(number): 1 for number in range(most + 1)} if name == "logit_bias" else ["x"] * (most + 1)
    assert refused({name: value}).param == name
    fields.check_fields({"model": "m", name: value[:-1] if isinstance(value, list) else {"1": 1}})


def test_the_fan_out_of_prompts_is_bounded() -> None:
    assert refused({"prompt": ["x"] * 128, "n": 9}).param == "prompt"
    assert refused({"prompt": [[1, 2]] * 1025}).param == "prompt"
    fields.check_fields({"model": "m", "prompt": ["x"] * 128, "n": 8})
    fields.check_fields({"model": "m", "prompt": list(range(5000)), "n": 128})
    assert refused({"input": ["x"] * 2049}).param == "input"
    fields.check_fields({"model": "m", "input": list(range(5000))})


def test_answers_in_bytes_are_refused() -> None:
    assert refused({"input": "x", "encoding_format": "bytes"}).param == "encoding_format"
    fields.check_fields({"model": "m", "input": "x", "encoding_format": "base64"})


def test_what_the_engine_compiles_is_bounded() -> None:
    for odd in ("x", "", 1, 0, True, False, [], ["a"], 1.5):
        assert refused({"structured_outputs": odd}).param == "structured_outputs"
    assert refused({"structured_outputs": {"choice": ["a"] * 1001}}).param == "structured_outputs"
    fields.check_fields({"model": "m", "structured_outputs": {"choice": ["a"] * 1000}})
    for name in ("regex", "grammar"):
        assert refused({"structured_outputs": {name: "a" * 70_000}}).param == "structured_outputs"
        fields.check_fields({"model": "m", "structured_outputs": {name: "a+"}})


@pytest.mark.parametrize("name", ["tokenize", "conversation", "tokenizer_kwargs", "return_tensors", "max_length"])
def test_a_template_gets_its_own_variables_alone(name: str) -> None:
    assert refused({"chat_template_kwargs": {name: "x"}}).param == "chat_template_kwargs"
    fields.check_fields({"chat_template_kwargs": {"enable_thinking": False, "documents": []}})


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}},
        {"type": "image_url", "image_url": "file:///etc/passwd"},
        {"type": "image_url", "image_url": " data:image/png;base64,x"},
        {"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "https://example.com/x.mp3"}},
        {"type": "input_image", "image_url": "https://example.com/x.png"},
        {"type": "input_file", "file_url": "https://example.com/x.pdf"},
        {"type": "text", "text": "x", "image_url": {"url": "http://example.com/"}},
        {"type": "tool_result", "content": [{"image_url": "http://example.com/"}]},
        {"type": "image_embeds", "image_embeds": "gASV"},
        {"type": "image_embeds", "data": "gASV"},
    ],
)
@pytest.mark.parametrize("field", ["messages", "input"])
def test_no_engine_fetches_anything(part: dict, field: str) -> None:
    for content in ([{"type": "text", "text": "a"}, part], part):
        assert refused({field: [{"role": "user", "content": content}]}, fields.check_media).param == field
    if field == "input":
        assert refused({"input": [part]}, fields.check_media).param == "input"


def test_no_engine_is_sent_to_a_tool_elsewhere() -> None:
    tool = {"type": "mcp", "server_label": "x", "server_url": "http://127.0.0.1:9000"}
    assert refused({"input": "x", "tools": [tool]}, fields.check_media).param == "tools"


def test_media_in_the_request_pass() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
    fields.check_media({"messages": [{"role": "user", "content": [part]}]})


def test_an_ordinary_request_goes_through_as_it_is() -> None:
    body = {"model": "m", "messages": HELLO, "max_tokens": 5, "stop": ["x"], "logit_bias": {"5": 1}, "logprobs": True}
    fields.check_fields(body)
    fields.check_media(body)
    assert fields.select_engine_fields(CHAT, body) is body


def test_unknown_fields_are_dropped_for_an_engine() -> None:
    assert fields.select_engine_fields(CHAT, {"model": "m", "surprise": 1}) == {"model": "m"}
    assert fields.select_engine_fields(COMPLETIONS, {"model": "m", "messages": []}) == {"model": "m"}
    assert fields.select_engine_fields(EMBEDDINGS, {"model": "m", "input": "x", "messages": []}) == {
        "model": "m",
        "input": "x",
    }
    assert fields.select_engine_fields(RESPONSES, {"model": "m", "input": "x", "mm_payload": 1}) == {
        "model": "m",
        "input": "x",
    }


def test_odd_types_are_left_to_the_engine_and_break_nothing() -> None:
    for odd in (5, "x", True, 1.5, [], {}, [5], [None], {"a": None}, [[[]]], [["role", {}]]):
        for name in sorted(field_limits.MAX_LENGTHS.keys() | {"messages", "prompt", "input", "metadata"}):
            body = {"model": "m", name: odd}
            fields.check_fields(body)
            fields.check_media(body)
    fields.check_fields({"model": "m", "response_format": {"type": ["structural_tag"]}})
    fields.check_media({"messages": [{"role": "user", "content": [{"type": 5, "image_url": 7}]}]})


def test_the_operators_page_names_each_field_and_bound() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "gateway.md").read_text("utf-8")
    rows = {line for line in page.splitlines() if line.startswith("|")}
    for name, most in {**field_limits.MAX_NUMBERS, **field_limits.MAX_LENGTHS}.items():
        assert any(f"`{name}`" in row and f"{most:,}" in row for row in rows), name
    for name in fields.DANGEROUS:
        assert any(f"`{name}`" in row for row in rows), name
    for most in (
        field_limits.MAX_CHOICES,
        field_limits.MAX_SEQUENCES,
        field_limits.MAX_INPUTS,
        field_limits.MAX_LOGPROBS,
    ):
        assert any(f"{most:,}" in row for row in rows)
