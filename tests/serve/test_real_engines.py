"""Real engines that take turns in the memory of one: tools, JSON, log-probabilities, embeddings, a graceful stop.

One stack serves the whole file; the tests run in order, and the last one stops it in the middle of an answer.
"""

import json
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai.types.responses import Response

from models.database import open_database, upgrade, utcnow
from models.registry.registry import Registry
from models.settings.settings import load_settings
from models.spec import EngineOptions, ModelSpec
from serve import start
from serve.batches.credentials import BatchToken, batch_token
from serve.fleet import engine_states, vllm_command
from tests.stack import Stack, free_ports
from tests.tiny_model import make_base

pytestmark = [pytest.mark.engine, pytest.mark.timeout(400)]
HELLO: list = [{"role": "user", "content": "hello"}]
TOOLS_TEMPLATE = "{% if tools %}<tool_call>{{ tools | tojson }}</tool_call>{% endif %}"
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
WEATHER: Any = {
    "type": "function",
    "function": {"name": "weather", "strict": True, "parameters": CITY | {"additionalProperties": False}},
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("fleet")
    # Torch finds no C++ compiler here, so an engine that needs one at run time fails.
    compilers = pytest.MonkeyPatch()
    compilers.setenv("CXX", str(home / "no-compiler"))
    settings = load_settings(
        home=home, port=free_ports(1)[0], device="cpu", cpu_kv_cache_gib=0.25, engine_memory_gib=2.0, queue_wait_s=150,
        stop_grace_s=30,
    )  # fmt: skip
    upgrade(settings)
    database = open_database(settings)
    talks = make_base(home / "talks")
    template = talks / "chat_template.jinja"
    template.write_text(TOOLS_TEMPLATE + template.read_text())
    embeds = make_base(home / "embeds", seed=3)
    config = json.loads((embeds / "config.json").read_text())
    (embeds / "config.json").write_text(json.dumps(config | {"architectures": ["Qwen2Model"]}))
    registry = Registry(database)
    few = EngineOptions(extra_args=("--max-num-seqs=4",))  # for the test of priorities
    registry.register(ModelSpec(id="talks", kind="base", path=str(talks), engine=few))
    registry.register(ModelSpec(id="embeds", kind="base", path=str(embeds)))
    running = start(settings, page=False, worker=False)
    try:
        running.wait_ready(200)
        yield Stack(running, settings, database)
    finally:
        running.stop()
        database.dispose()
        compilers.undo()


@pytest.fixture
def sdk(live: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=live.gateway_url, api_key="any", max_retries=0, timeout=180)


def test_there_is_room_for_one_and_the_other_sleeps(live: Stack) -> None:
    known = engine_states.model_states(live.database)
    assert known["talks"].state == "ready"
    assert known["embeds"].state == "stopped"
    assert known["embeds"].message.startswith("asleep; starts with the next request")


def test_the_tiniest_model_answers_a_prompt_of_one_token(sdk: openai.OpenAI) -> None:
    """On a CPU with AMX its matrix products are too small for oneDNN to request tiles: the plugin must do so."""
    answer = sdk.completions.create(model="talks", prompt="a", max_tokens=1)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, 1)


def test_an_engine_forks_its_core(live: Stack) -> None:
    """A spawned core would have imported everything again, beside a resource tracker of Python."""
    family = psutil.Process(live.running.pid).children(recursive=True)
    commands = [" ".join(process.cmdline()) for process in family]
    assert [command for command in commands if vllm_command.MODULE in command]
    assert [command for command in commands if "multiprocessing" in command] == []


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_tool_is_called_when_it_has_to_be(sdk: openai.OpenAI, choice: Any) -> None:
    answer = sdk.chat.completions.create(
        model="talks", messages=HELLO, tools=[WEATHER], tool_choice=choice, max_tokens=400, parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")


def test_a_forced_call_fits_its_schema_on_every_route(sdk: openai.OpenAI) -> None:
    """Without `strict`, which few clients send: vLLM by itself would take any JSON as arguments."""
    loose: Any = {"type": "function", "function": {"name": "weather", "parameters": CITY}}
    named: Any = {"type": "function", "function": {"name": "weather"}}
    answer = sdk.chat.completions.create(
        model="talks", messages=HELLO, tools=[loose], tool_choice=named, max_tokens=300, parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls or ()
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")  # type: ignore[union-attr] -- a function
    flat: Any = {"type": "function", "name": "weather", "parameters": CITY}
    response = sdk.responses.create(
        model="talks", input="hello", tools=[flat], tool_choice="required", max_output_tokens=300,
        parallel_tool_calls=False,
    )  # fmt: skip
    called = [item for item in response.output if item.type == "function_call"]
    assert json.loads(called[0].arguments)["city"] in ("Oslo", "Rome")
    old = sdk.chat.completions.create(
        model="talks", messages=HELLO, functions=[{"name": "weather", "parameters": CITY}], max_tokens=300,
        function_call={"name": "weather"},
    )  # fmt: skip
    assert old.choices[0].message.function_call is not None
    assert json.loads(old.choices[0].message.function_call.arguments)["city"] in ("Oslo", "Rome")


def _running(live: Stack) -> int:
    """The requests that the engine has now, running and waiting."""
    with urllib.request.urlopen(live.gateway_url.removesuffix("/v1") + "/metrics") as response:
        metrics = response.read().decode()
    return int(re.findall(r'^parley_engine_requests_running\{engine="talks"\} (\d+)', metrics, re.MULTILINE)[0])


def test_an_interactive_request_overtakes_a_batchs_rows(live: Stack, sdk: openai.OpenAI) -> None:
    """The engine runs four at once. Sent last, the interactive request takes the first place that becomes free."""
    token = batch_token(live.settings.home, BatchToken("batch_1", "", utcnow() + timedelta(hours=1)))
    rows = openai.OpenAI(base_url=live.gateway_url, api_key=token, max_retries=0, timeout=180)
    done: list[str] = []

    def send(client: openai.OpenAI, name: str, tokens: int) -> None:
        client.chat.completions.create(
            model="talks", messages=[{"role": "user", "content": name}], max_tokens=tokens,
            extra_body={"ignore_eos": True},
        )  # fmt: skip
        done.append(name)

    threads = [threading.Thread(target=send, args=(rows, f"row {number}", 300)) for number in range(16)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while _running(live) < 12:
        assert time.monotonic() < deadline, done
        time.sleep(0.01)
    send(sdk, "interactive", 1)
    for thread in threads:
        thread.join()
    assert len(done) == 17
    assert done.index("interactive") <= 8


def test_a_response_continues_another_with_its_calls(sdk: openai.OpenAI) -> None:
    flat: Any = {"type": "function", "name": "weather", "parameters": CITY}
    options: Any = {"model": "talks", "max_output_tokens": 300, "temperature": 0}
    first = sdk.responses.create(**options, input="hello", instructions="Be short.")
    alone = sdk.responses.create(**options, input="and now?")
    second = sdk.responses.create(
        **options, input="and now?", previous_response_id=first.id, tools=[flat], tool_choice="required",
        parallel_tool_calls=False,
    )  # fmt: skip
    whole: Any = [{"role": "user", "content": "hello"}, *first.output, {"role": "user", "content": "and now?"}]
    same = sdk.responses.create(
        **options, input=whole, store=False, tools=[flat], tool_choice="required", parallel_tool_calls=False
    )
    assert input_tokens(second) == input_tokens(same) > input_tokens(alone)
    assert (second.previous_response_id, same.previous_response_id) == (first.id, None)
    call = next(item for item in second.output if item.type == "function_call")
    result: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
    with sdk.responses.stream(**options, input=result, previous_response_id=second.id, tools=[flat]) as stream:
        last = stream.get_final_response()
    assert input_tokens(last) > input_tokens(second)
    assert last.previous_response_id == second.id
    with pytest.raises(openai.BadRequestError, match="This model's maximum context length is") as refused:
        sdk.responses.create(**options, input="hello " * 20_000, previous_response_id=last.id)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


def input_tokens(response: Response) -> int:
    assert response.usage is not None
    return response.usage.input_tokens


def test_an_engines_errors_are_openais(sdk: openai.OpenAI) -> None:
    long = "hello " * 20_000
    messages: Any = [{"role": "user", "content": long}]
    for param, send in {
        "messages": lambda: sdk.chat.completions.create(model="talks", messages=messages, stream=True),
        "prompt": lambda: sdk.completions.create(model="talks", prompt=long),
        "input": lambda: sdk.responses.create(model="talks", input=long),
    }.items():
        with pytest.raises(openai.BadRequestError, match="This model's maximum context length is") as refused:
            send()
        assert (refused.value.code, refused.value.param) == ("context_length_exceeded", param)
    for field, value, param in (
        ("messages", [{"role": "user", "content": None}], "messages[0].content"),
        ("response_format", {"type": "regex"}, "response_format.type"),
        ("structured_outputs", {"regex": "("}, "structured_outputs"),
        ("tools", [], "tools"),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            sdk.chat.completions.create(model="talks", messages=HELLO, extra_body={field: value})
        assert refused.value.param == param
        assert not re.search("pydantic|vllm|validation error|<path>|--", refused.value.message.lower())
    kept = sdk.chat.completions.create(model="talks", messages=HELLO, extra_body={"guided_choice": ["yes", "no"]})
    assert kept.choices[0].message.content in ("yes", "no")


def test_anthropics_api(live: Stack, sdk: openai.OpenAI) -> None:
    body: dict[str, Any] = {"model": "talks", "messages": HELLO, "max_tokens": 5}
    whole = sdk.post("/messages", cast_to=object, body=body)
    assert whole["usage"]["output_tokens"] == 5  # type: ignore[index] -- plain JSON
    del body["max_tokens"]
    counted = sdk.post("/messages/count_tokens", cast_to=object, body=body)
    assert counted["input_tokens"] == whole["usage"]["input_tokens"] > 0  # type: ignore[index] -- plain JSON
    tokens = sdk.post("/tokenize", cast_to=object, body=body)
    assert tokens["count"] == counted["input_tokens"]  # type: ignore[index] -- plain JSON
    described = sdk.models.retrieve("talks").to_dict()
    assert described["max_model_len"] == tokens["max_model_len"]  # type: ignore[index] -- plain JSON
    with pytest.raises(openai.NotFoundError, match="does not support /v1/rerank"):
        sdk.post("/rerank", cast_to=object, body={"model": "talks", "query": "a", "documents": ["b"]})


def test_json_and_log_probabilities(sdk: openai.OpenAI) -> None:
    schema = {
        "type": "object", "required": ["city", "score"], "additionalProperties": False,
        "properties": CITY["properties"] | {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
    }  # fmt: skip
    shape: Any = {"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}}
    answer = sdk.chat.completions.create(
        model="talks", messages=HELLO, response_format=shape, max_tokens=80, logprobs=True, top_logprobs=20
    )
    assert re.fullmatch(r'\{"city":"(Oslo|Rome)","score":[1-5]\}', answer.choices[0].message.content or "")
    assert answer.choices[0].logprobs is not None
    assert len((answer.choices[0].logprobs.content or [])[0].top_logprobs) == 20


def test_a_requested_model_takes_the_place_of_the_other_and_back(live: Stack, sdk: openai.OpenAI) -> None:
    began = time.monotonic()
    vectors = sdk.embeddings.create(model="embeds", input=["hello", "world"], encoding_format="float").data
    print(f"the other model answered after {time.monotonic() - began:.0f} s")
    assert [len(vector.embedding) for vector in vectors] == [64, 64]
    known = engine_states.model_states(live.database)
    assert (known["embeds"].state, known["talks"].state) == ("ready", "stopped")
    began = time.monotonic()
    answer = sdk.chat.completions.create(model="talks", messages=HELLO, max_tokens=4)
    print(f"the first one answered after {time.monotonic() - began:.0f} s")
    assert answer.usage is not None
    assert engine_states.model_states(live.database)["embeds"].state == "stopped"


def test_a_stop_lets_running_answers_end(live: Stack, sdk: openai.OpenAI) -> None:
    stream = sdk.chat.completions.create(
        model="talks", messages=HELLO, max_tokens=1200, stream=True, extra_body={"ignore_eos": True}
    )
    chunks = [next(stream)]
    live.running.process.send_signal(signal.SIGTERM)
    ended = threading.Thread(target=live.running.process.wait)
    ended.start()
    chunks += list(stream)
    assert chunks[-1].choices[0].finish_reason == "length"
    ended.join(30)
    assert live.running.process.returncode == 0
    assert not Path(live.settings.home / "up.json").exists()
