"""Embeddings and responses through the gateway with the real SDK; what an engine lacks becomes a 4xx."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import openai
import pytest

from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream


def sdk(gateway: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)


def metrics(gateway: Serving) -> list[str]:
    with urllib.request.urlopen(f"{gateway.root}/metrics") as answer:
        return answer.read().decode().splitlines()


def completion_tokens(gateway: Serving, model: str) -> float:
    start = f'parley_tokens_total{{direction="completion",key="",model="{model}"}}'
    return sum(float(line.split()[-1]) for line in metrics(gateway) if line.startswith(start))


@pytest.mark.long
@pytest.mark.parametrize("model", ["whole", "engine"])
def test_embeddings_are_handed_on_and_counted(both: Serving, upstream: PacedUpstream, model: str) -> None:
    answer = sdk(both).embeddings.create(model=model, input=["hello"], encoding_format="float")
    assert answer.data[0].embedding == [0.5, -0.5]
    assert upstream.seen.requests[0]["input"] == ["hello"]
    assert f'parley_tokens_total{{direction="prompt",key="",model="{model}"}}' in "\n".join(metrics(both))


@pytest.mark.long
@pytest.mark.parametrize("model", ["whole", "engine"])
def test_a_response_is_handed_on_whole_and_as_events(both: Serving, upstream: PacedUpstream, model: str) -> None:
    client = sdk(both)
    answer = client.responses.create(model=model, input="hello")
    assert answer.output_text == "word word word word "
    assert answer.usage is not None
    assert answer.usage.total_tokens == 11
    events = list(client.responses.create(model=model, input="hello", stream=True))
    assert [event.type for event in events] == [
        "response.created", *["response.output_text.delta"] * 4, "response.completed"
    ]  # fmt: skip
    assert "stream_options" not in upstream.seen.requests[1]
    # A stream is recorded after it has ended, a moment after its client knows.
    deadline = time.monotonic() + 5
    while completion_tokens(both, model) < 8:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("model", ["breaks", "stops", "reports"])
@pytest.mark.long
def test_a_broken_response_says_so(both: Serving, model: str) -> None:
    events = []
    with pytest.raises(openai.APIError):
        events.extend(sdk(both).responses.create(model=model, input="hello", stream=True))
    assert [event.type for event in events] == ["response.created", *["response.output_text.delta"] * 4]
    request = urllib.request.Request(
        f"{both.base_url}/responses", json.dumps({"model": model, "input": "hello", "stream": True}).encode(),
        {"content-type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=10) as answer:
        last = answer.read().decode().strip().split("\n\n")[-1]
    event, data = last.splitlines()
    assert event == "event: error"
    error = json.loads(data.removeprefix("data: "))
    assert (error["type"], set(error["error"])) == ("error", {"message", "type", "param", "code"})
    assert error["message"] == error["error"]["message"]


@contextmanager
def bare_engine() -> Iterator[str]:
    """An engine without the requested routes, as vLLM with a model of another kind."""
    server = PacedUpstream()
    server.routes = ("/v1/chat/completions",)
    with server:
        yield server.address


@pytest.mark.long
@pytest.mark.parametrize("path", ["embeddings", "responses"])
def test_an_engine_without_the_route_is_a_400_that_says_so(gateway: Serving, tmp_path, path: str) -> None:
    with bare_engine() as address:
        gateway.engine("writer", tmp_path / "weights", address)
        with pytest.raises(openai.BadRequestError, match=f"/v1/{path}") as refused:
            if path == "embeddings":
                sdk(gateway).embeddings.create(model="writer", input="hello")
            else:
                sdk(gateway).responses.create(model="writer", input="hello")
        assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "resp_1"), ("DELETE", "resp_1"), ("POST", "resp_1/cancel"), ("GET", "resp_1/input_items")],
)
def test_responses_that_were_stored_elsewhere_are_reported_as_not_found(both: Serving, method: str, path: str) -> None:
    data = b"{}" if method == "POST" else None
    request = urllib.request.Request(
        f"{both.base_url}/responses/{path}", data, {"content-type": "application/json"}, method=method
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert refused.value.code == 404
    assert "resp_1" in json.loads(refused.value.read())["error"]["message"]


def test_only_routes_on_the_list_reach_an_engine(both: Serving, upstream: PacedUpstream) -> None:
    for path in ("/v1/load_lora_adapter", "/invocations", "/pause", "/v1/audio/speech", "/tokenize", "/v1/score"):
        request = urllib.request.Request(both.root + path, b'{"model":"engine"}', {"content-type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 404
    assert upstream.seen.requests == []


def test_ready_says_whether_requests_had_better_come(gateway: Serving) -> None:
    with urllib.request.urlopen(f"{gateway.root}/ready") as answer:
        assert json.loads(answer.read()) == {"status": "ready"}
    gateway.app.begin_shutdown()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{gateway.root}/ready")
    assert refused.value.code == 503
    assert "stopping" in json.loads(refused.value.read())["error"]["message"]
    with urllib.request.urlopen(f"{gateway.root}/health") as answer:
        assert answer.status == 200


@pytest.mark.long
def test_a_database_that_is_gone_is_not_ready(gateway: Serving) -> None:
    gateway.database.dispose()
    gateway.settings.home.joinpath("parley.db").rename(gateway.settings.home / "elsewhere.db")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{gateway.root}/ready")
    assert refused.value.code == 503
    assert "database" in json.loads(refused.value.read())["error"]["message"]
