"""Anthropic's API and rare routes, through the gateway to a fake of vLLM; functions in streams."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from models.database import open_database, upgrade
from models.keys import create_key
from models.settings.settings import load_settings
from tests.fakes.openai_chat import FakeChat
from tests.fakes.vllm_engine import FakeVLLM
from tests.serve.gateways import Serving, serving
from tests.serve.test_inference_handler import post

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
TOOLS = "{% if tools %}<tool_call>{{ tools | tojson }}</tool_call>{% endif %}" + TEMPLATE
WEATHER: dict[str, Any] = {"name": "weather", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeVLLM]:
    with FakeVLLM() as fake:
        yield fake


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory, engine: FakeVLLM) -> Iterator[Serving]:
    """A gateway before an engine with tools, one without, and OpenAI."""
    home = tmp_path_factory.mktemp("messages")
    settings = load_settings(home=home)
    upgrade(settings)
    database = open_database(settings)
    with FakeChat() as hosted, serving(settings, database) as running, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_OPENAI_KEY", hosted.key)
        for name, template in (("talks", TOOLS), ("plain", TEMPLATE)):
            (home / name).mkdir()
            (home / name / "chat_template.jinja").write_text(template)
            config = {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 4096}
            (home / name / "config.json").write_text(json.dumps(config))
            running.engine(name, home / name, engine.address)
        running.hosted("large", base_url=hosted.base_url, credential="FAKE_OPENAI_KEY")
        yield running
    database.dispose()


def ask(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "talks", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **more}


def events(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(part.split("data: ", 1)[1]) for part in body.decode().strip().split("\n\n")]


def tokens(front: Serving, direction: str) -> int:
    """The tokens of the model "talks" so far."""
    counted = re.findall(r"^parley_tokens_total\{(.*)\} (\d+)", front.app.metrics.text().decode(), re.MULTILINE)
    return sum(int(number) for labels, number in counted if '"talks"' in labels and f'"{direction}"' in labels)


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits for what the gateway records after a response is sent."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_message_is_counted_whole_and_as_a_stream(front: Serving, engine: FakeVLLM) -> None:
    before = len(engine.requests)
    status, headers, body = post(front, ask("hello", temperature=0, service_tier="auto"), "/messages")
    assert (status, json.loads(body)["content"]) == (200, [{"type": "text", "text": "hello"}])
    assert headers["request-id"] == headers["x-request-id"]
    assert set(engine.requests[before].json()) == {"model", "max_tokens", "messages", "temperature"}
    status, _, body = post(front, ask("hello", stream=True), "/messages")
    assert [event["type"] for event in events(body)] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta",
        "message_stop",
    ]  # fmt: skip
    # 7 tokens of the whole message's prompt, two of them from a cache, and 24 of the stream's.
    wait_for(lambda: (tokens(front, "prompt"), tokens(front, "completion")) == (31, 12))


def test_counting_tokens_costs_none(front: Serving, engine: FakeVLLM) -> None:
    before = tokens(front, "prompt")
    counted = ask("hello")
    del counted["max_tokens"]
    assert json.loads(post(front, counted, "/messages/count_tokens")[2]) == {"input_tokens": 24}
    assert json.loads(post(front, {"model": "talks", "prompt": "hello there"}, "/tokenize")[2])["count"] == 2
    assert engine.requests[-1].path == "/tokenize"
    post(front, ask("hello"), "/messages")
    wait_for(lambda: tokens(front, "prompt") == before + 7)


@pytest.mark.parametrize(
    ("request_body", "path", "status", "kind", "expected"),
    [
        (ask("too long"), "/messages", 400, "invalid_request_error",
         "prompt is too long: at least 4097 tokens > 4096 maximum"),
        (ask("dead"), "/messages", 503, "overloaded_error", "Try again in a moment"),
        (ask("hello", model="nobody"), "/messages", 404, "not_found_error", "does not exist"),
        (ask("hello", model="large"), "/messages", 404, "not_found_error", "Use /v1/chat/completions"),
        (ask("hello", model="large"), "/messages/count_tokens", 404, "not_found_error", "no such route"),
        (ask("hello", kv_transfer_params={}), "/messages", 400, "invalid_request_error", "kv_transfer_params"),
        (ask("hello", model="plain", tools=[{"name": "weather", "input_schema": {}}]), "/messages", 400,
         "invalid_request_error", "--tool-call-parser"),
        ({"model": "talks", "max_tokens": 9, "messages": [{"role": "system", "content": [
            {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": {
                "name": "x", "input_schema": {"type": "array", "minItems": 10**9}}}}]}]}, "/messages", 400,
         "invalid_request_error", "too large"),
        ({"model": "talks", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": "http://169.254.169.254/"}}]}]}, "/messages", 400,
         "invalid_request_error", "data: URLs"),
    ],
)  # fmt: skip
def test_errors_have_anthropics_shape(
    front: Serving, request_body: dict[str, Any], path: str, status: int, kind: str, expected: str
) -> None:
    got, headers, body = post(front, request_body, path)
    reply = json.loads(body)
    assert (got, reply["type"], reply["error"]["type"]) == (status, "error", kind)
    assert expected in reply["error"]["message"]
    assert reply["request_id"] == headers["request-id"]
    assert set(reply["error"]) == {"type", "message", "param", "code"}


@pytest.mark.parametrize("path", ["/messages", "/chat/completions"])
def test_a_dead_engine_ends_a_stream_with_an_error_without_its_stack(front: Serving, path: str) -> None:
    _, _, body = post(front, ask("dies later", stream=True), path)
    last = events(body)[-1]
    assert last["error"]["message"].endswith("Try again in a moment.")
    assert b"stack trace" not in body
    assert b"[DONE]" not in body
    assert path == "/chat/completions" or (last["type"], last["error"]["type"]) == ("error", "api_error")


@pytest.mark.parametrize("path", ["/rerank", "/moderations"])
@pytest.mark.parametrize("model", ["talks", "large"])
def test_a_route_that_the_server_lacks_is_a_404(front: Serving, path: str, model: str) -> None:
    status, _, body = post(front, {"model": model, "input": "a", "query": "a", "documents": ["b"]}, path)
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (404, "unknown_url", "model")
    assert f"does not support /v1{path}" in error["message"]


def test_functions_are_answered_as_functions(front: Serving, engine: FakeVLLM) -> None:
    client = openai.OpenAI(base_url=front.base_url, api_key="any", max_retries=0)
    request: Any = {"model": "talks", "messages": [{"role": "user", "content": "call"}], "functions": [WEATHER]}
    choice = client.chat.completions.create(**request, function_call="auto").choices[0]
    assert choice.message.function_call is not None
    assert (choice.message.function_call.name, choice.message.function_call.arguments) == ("weather", '{"city":"Oslo"}')
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "function_call")
    sent = engine.requests[-1].json()
    assert (sent["tools"], sent["tool_choice"]) == ([{"type": "function", "function": WEATHER}], "auto")
    assert "functions" not in sent
    chunks = list(client.chat.completions.create(**request, stream=True))
    called = [chunk.choices[0].delta.function_call for chunk in chunks if chunk.choices[0].delta.function_call]
    assert called[0].name == "weather"
    assert "".join(part.arguments or "" for part in called) == '{"city":"Oslo"}'
    assert chunks[-1].choices[0].finish_reason == "function_call"
    assert all(chunk.choices[0].delta.tool_calls is None for chunk in chunks)


def test_a_model_without_a_parser_refuses_tools_on_every_route(front: Serving, engine: FakeVLLM) -> None:
    client = openai.OpenAI(base_url=front.base_url, api_key="any", max_retries=0)
    before = len(engine.requests)
    flat: Any = {"type": "function"} | WEATHER
    with pytest.raises(openai.BadRequestError, match="--tool-call-parser"):
        client.responses.create(model="plain", input="hi", tools=[flat], tool_choice="required")
    with pytest.raises(openai.BadRequestError, match="--tool-call-parser"):
        client.chat.completions.create(
            model="plain", messages=[{"role": "user", "content": "hi"}], functions=[WEATHER]  # type: ignore[arg-type] -- a plain dict
        )  # fmt: skip
    assert len(engine.requests) == before


def test_models_list_their_capabilities(front: Serving) -> None:
    client = openai.OpenAI(base_url=front.base_url, api_key="any")
    talks = client.models.retrieve("talks").to_dict()
    assert (talks["max_model_len"], talks["context_length"]) == (4096, 4096)
    assert (talks["root"], talks["parent"], talks["owned_by"]) == ("talks", None, "parley")
    assert talks["capabilities"] == {
        "chat": True, "completions": True, "embeddings": False, "tools": True, "structured_outputs": True,
        "reasoning": False, "vision": False, "logprobs": True,
    }  # fmt: skip
    listed = {model.id: model.to_dict() for model in client.models.list()}
    assert listed["talks"] == talks
    assert listed["plain"]["capabilities"]["tools"] is False  # type: ignore[index] -- a field that the SDK does not know
    assert "capabilities" not in listed["large"]


@pytest.mark.long
def test_a_missing_key_gets_anthropics_error_format(front: Serving) -> None:
    """The last test: from here on the gateway needs a key."""
    create_key(front.database, name="someone", role="client")
    front.seen(lambda snapshot: snapshot.keys_needed)
    status, _, body = post(front, ask("hello"), "/messages")
    assert (status, json.loads(body)["error"]["type"]) == (401, "authentication_error")
