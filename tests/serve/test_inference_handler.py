"""The data path with the real OpenAI SDK against a paced upstream: bytes, streams, errors, aliases, waiting."""

import asyncio
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import aiohttp
import openai
import pytest

from models.database import Database
from models.settings.settings import load_settings
from models.spec import ModelSpec
from serve.fleet import engine_states
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import USAGE, PacedUpstream

HELLO: list = [{"role": "user", "content": "hello"}]


def sdk(gateway: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key="any", max_retries=0)


def post(gateway: Serving, body: dict, path: str = "/chat/completions") -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(
        gateway.base_url + path, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


@pytest.mark.long
def test_a_whole_answer_passes_as_it_is(both: Serving, upstream: PacedUpstream) -> None:
    answer = sdk(both).chat.completions.with_raw_response.create(model="whole", messages=HELLO)
    assert answer.parse().choices[0].message.content == "word word word word "
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert "server" not in answer.headers
    assert upstream.seen.requests == [{"messages": HELLO, "model": "whole"}]


@pytest.mark.long
def test_system_messages_reach_a_model_as_it_has_learnt_them(both: Serving, upstream: PacedUpstream) -> None:
    engine = both.registry.resolve("engine")
    folds = ModelSpec(id="folds", kind="hosted", upstream=both.registry.resolve("whole").upstream, fold_system="all")
    if "folds" not in {spec.id for spec in both.registry.list()}:
        both.registry.register(folds)
        both.seen(lambda snapshot: "folds" in snapshot.routes)
    chat = [{"role": "system", "content": "Be brief."}, *HELLO]
    assert post(both, {"model": "folds", "messages": chat})[0] == 200
    assert post(both, {"model": engine.id, "messages": chat})[0] == 200
    assert [request["messages"] for request in upstream.seen.requests] == [
        [{"role": "user", "content": "Be brief.\n\nhello"}], chat,
    ]  # fmt: skip


@pytest.mark.parametrize("model", ["engine", "whole"])
def test_the_forwarded_body_is_the_one_that_was_checked(both: Serving, upstream: PacedUpstream, model: str) -> None:
    """The body is written again, so that of a repeated key no server can read the one that was not checked."""
    raw = b'{ "n":1000000, "n":2, "m\\u006fdel":"%b" , "messages":[{"role":"user","content":"\\u00e9 \xc3\xa9"}]}'
    raw %= model.encode()
    request = urllib.request.Request(f"{both.base_url}/chat/completions", raw, {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=5).read()
    sent = f'{{"n":2,"model":"{model}","messages":[{{"role":"user","content":"é é"}}]}}'
    assert upstream.seen.raw == [sent.encode()]


@pytest.mark.parametrize("model", ["whole", "crlf", "split", "engine"])
def test_a_stream_is_whole_and_its_usage_frame_is_ours_alone(both: Serving, upstream: PacedUpstream, model) -> None:
    chunks = list(sdk(both).chat.completions.create(model=model, messages=HELLO, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "w0 w1 w2 w3 "
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert upstream.seen.requests[0]["stream_options"] == {"include_usage": True}
    _, _, body = post(both, {"model": model, "messages": HELLO, "stream": True})
    assert body.rstrip().endswith(b"data: [DONE]")
    assert b"usage" not in body


def test_requested_usage_is_returned(both: Serving) -> None:
    chunks = list(
        sdk(both).chat.completions.create(
            model="engine", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == USAGE["total_tokens"]


def test_stream_options_without_stream_are_ignored(both: Serving, upstream: PacedUpstream) -> None:
    status, _, _ = post(both, {"model": "engine", "messages": HELLO, "stream_options": {"include_usage": True}})
    assert status == 200
    assert "stream_options" not in upstream.seen.requests[0]


@pytest.mark.parametrize("model", ["breaks", "stops", "reports"])
def test_a_broken_stream_says_so_and_never_ends_as_if_whole(both: Serving, model) -> None:
    _, _, body = post(both, {"model": model, "messages": HELLO, "stream": True})
    assert b"[DONE]" not in body
    last = json.loads(body.strip().rsplit(b"data: ", 1)[1])
    assert set(last["error"]) == {"message", "type", "param", "code"}
    texts = []
    with pytest.raises(openai.APIError):
        texts.extend(
            chunk.choices[0].delta.content
            for chunk in sdk(both).chat.completions.create(model=model, messages=HELLO, stream=True)
        )
    assert texts == ["w0 ", "w1 "]


def test_an_error_that_comes_in_pieces_is_reported_whole(both: Serving) -> None:
    with pytest.raises(openai.BadRequestError, match="half and half"):
        sdk(both).chat.completions.create(model="stutters", messages=HELLO)


def test_a_redirect_is_not_followed_and_not_passed_on(both: Serving) -> None:
    status, headers, body = post(both, {"model": "moved", "messages": HELLO})
    assert status == 502
    assert headers["x-should-retry"] == "false"
    assert b"example" not in body
    assert "307" in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_count_that_makes_no_sense_is_not_counted(
    both: Serving, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    status, _, body = post(both, {"model": "miscounts", "messages": HELLO, "stream": stream})
    assert status == 200
    assert b"server_error" not in body
    with urllib.request.urlopen(f"{both.root}/metrics") as answer:
        assert b'parley_tokens_total{direction="prompt",model="miscounts"}' not in answer.read()
    assert not caplog.records


def test_a_body_that_is_nested_too_deeply_is_refused(both: Serving) -> None:
    deep: list = []
    for _ in range(400):
        deep = [deep]
    status, _, body = post(both, {"model": "engine", "messages": deep, "stream": True})
    assert status == 400
    assert "nested" in json.loads(body)["error"]["message"]


def test_completions_take_the_same_way(both: Serving) -> None:
    client = sdk(both)
    assert client.completions.create(model="engine", prompt="a").choices[0].text == "word"
    assert [c.choices[0].text for c in client.completions.create(model="engine", prompt="a", stream=True)] == [
        "w0 ", "w1 ", "w2 ", "w3 "
    ]  # fmt: skip


async def test_the_async_client_too(both: Serving) -> None:
    async with openai.AsyncOpenAI(base_url=both.base_url, api_key="any") as client:
        stream = await client.chat.completions.create(model="engine", messages=HELLO, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "w0 w1 w2 w3 "


def test_errors_are_the_sdks_classes(both: Serving) -> None:
    client = sdk(both)
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.RateLimitError) as busy:
        client.chat.completions.create(model="busy", messages=HELLO)
    assert busy.value.response.headers["retry-after"] == "7"
    assert busy.value.code is None
    with pytest.raises(openai.InternalServerError) as crashed:
        client.chat.completions.create(model="crashes", messages=HELLO)
    assert "500" in crashed.value.message
    with pytest.raises(openai.InternalServerError) as broken:
        client.chat.completions.create(model="breaks", messages=HELLO)
    assert broken.value.status_code == 503


def test_our_key_in_an_upstreams_message_is_not_forwarded(both: Serving) -> None:
    status, headers, body = post(both, {"model": "refuses", "messages": HELLO})
    assert status == 502
    assert b"sk-" not in body
    assert headers["x-should-retry"] == "false"


def test_dangerous_fields_are_named_and_unknown_ones_dropped_for_engines(
    both: Serving, upstream: PacedUpstream
) -> None:
    for model in ("engine", "whole"):
        with pytest.raises(openai.BadRequestError) as refused:
            sdk(both).chat.completions.create(model=model, messages=HELLO, extra_body={"chat_template": "{{ x }}"})
        assert refused.value.param == "chat_template"
        sdk(both).chat.completions.create(model=model, messages=HELLO, extra_body={"surprise": 1})
    assert [("surprise" in request) for request in upstream.seen.requests] == [False, True]


@pytest.mark.long
def test_an_alias_rewrites_the_model(both: Serving, upstream: PacedUpstream) -> None:
    both.registry.alias("gpt-4o-mini", "engine")
    both.seen(lambda snapshot: "gpt-4o-mini" in snapshot.routes)
    sdk(both).chat.completions.create(model="gpt-4o-mini", messages=HELLO)
    assert upstream.seen.requests[0]["model"] == "engine"


@pytest.mark.long
def test_a_hosted_model_gets_its_own_name_and_key(
    gateway: Serving, upstream: PacedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_UPSTREAM_KEY", "sk-upstream")
    gateway.hosted("ours", base_url=f"{upstream.address}/v1", model="whole", credential="SOME_UPSTREAM_KEY")
    gateway.hosted("keyless", base_url=f"{upstream.address}/v1", model="whole", credential="NOBODY_SET_THIS_KEY")
    sdk(gateway).chat.completions.create(model="ours", messages=HELLO)
    assert upstream.seen.requests[0]["model"] == "whole"
    assert upstream.seen.headers[0]["authorization"] == "Bearer sk-upstream"
    with pytest.raises(openai.InternalServerError, match="NOBODY_SET_THIS_KEY"):
        sdk(gateway).chat.completions.create(model="keyless", messages=HELLO)


@pytest.mark.long
@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_disconnects_ends_the_upstream_request(
    both: Serving, upstream: PacedUpstream, stream
) -> None:
    upstream.chunks = 200
    model = "drips" if stream else "hangs"
    async with aiohttp.ClientSession() as session:
        body = {"model": model, "messages": HELLO, "stream": stream}
        request = asyncio.create_task(session.post(f"{both.base_url}/chat/completions", json=body))
        if stream:
            answer = await request
            await answer.content.readany()
            answer.close()
        else:
            await asyncio.sleep(0.3)
            request.cancel()
    await asyncio.to_thread(upstream.seen.somebody_left.wait, 2)
    assert upstream.seen.left == 1


@pytest.mark.long
def test_a_request_waits_for_a_model_that_starts(gateway: Serving, upstream: PacedUpstream, tmp_path: Path) -> None:
    gateway.engine("slow", tmp_path / "slow", None)
    threading.Timer(0.7, gateway.publish, ("slow", upstream.address)).start()
    began = time.monotonic()
    assert sdk(gateway).chat.completions.create(model="slow", messages=HELLO).choices
    assert 0.5 < time.monotonic() - began < 3
    assert "slow" in engine_states.read_demand(gateway.database, timedelta(minutes=1))


@pytest.mark.long
def test_a_request_for_an_engine_that_has_just_ended_waits_for_the_next(
    gateway: Serving, upstream: PacedUpstream, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    gateway.engine("m", tmp_path / "weights", nobody)
    threading.Timer(0.4, gateway.publish, ("m", None)).start()
    threading.Timer(0.9, gateway.publish, ("m", upstream.address)).start()
    began = time.monotonic()
    assert sdk(gateway).chat.completions.create(model="m", messages=HELLO).choices
    assert time.monotonic() - began > 0.8
    assert len(upstream.seen.requests) == 1


@pytest.mark.long
def test_an_engine_that_stays_away_is_reported_within_seconds(gateway: Serving, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        gateway.engine("m", tmp_path / "weights", f"http://127.0.0.1:{probe.getsockname()[1]}")
    began = time.monotonic()
    status, headers, body = post(gateway, {"model": "m", "messages": HELLO})
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"cannot be reached" in body
    assert time.monotonic() - began < 4


@pytest.mark.long
def test_the_wait_and_the_queue_have_an_end(database: Database, home: Path, tmp_path: Path) -> None:
    settings = load_settings(home=home, queue_wait_s=1.0, queue_size=1)
    with serving(settings, database) as gateway:
        gateway.engine("slow", tmp_path / "slow", None)
        results: list[int] = []
        body = {"model": "slow", "messages": HELLO}
        waiting = threading.Thread(target=lambda: results.append(post(gateway, body)[0]))
        waiting.start()
        time.sleep(0.3)
        status, headers, _ = post(gateway, body)
        assert (status, headers["retry-after"]) == (429, "5")
        waiting.join()
        assert results == [503]
        engine_states.write_statuses(
            database, [engine_states.EngineStatus("slow", "failed", message="gave up: no memory")]
        )
        gateway.seen(lambda snapshot: snapshot.routes["slow"].state.state == "failed")
        status, headers, body_out = post(gateway, body)
        assert status == 503
        assert b"no memory" in body_out
        assert "retry-after" in headers


@pytest.mark.long
def test_a_big_body_is_refused_in_one_line(database: Database, home: Path, upstream: PacedUpstream) -> None:
    with serving(load_settings(home=home, max_body_mib=0.1), database) as gateway:
        gateway.hosted("whole", base_url=f"{upstream.address}/v1")
        with pytest.raises(openai.APIStatusError) as refused:
            sdk(gateway).chat.completions.create(model="whole", messages=[{"role": "user", "content": "x" * 200_000}])
        assert refused.value.status_code == 413
        assert "max_body_mib" in refused.value.message


@pytest.mark.long
def test_figures_count_what_passed(gateway: Serving, upstream: PacedUpstream, tmp_path: Path) -> None:
    gateway.engine("engine", tmp_path / "weights", upstream.address)
    list(sdk(gateway).chat.completions.create(model="engine", messages=HELLO, stream=True))
    sdk(gateway).chat.completions.create(model="engine", messages=HELLO)
    used = 'parley_tokens_total{direction="completion",key="",model="engine"} 8.0'
    lines: list[str] = []
    deadline = time.monotonic() + 5
    while used not in lines:  # a stream is recorded after it has ended, a moment after its client knows
        assert time.monotonic() < deadline, lines
        with urllib.request.urlopen(f"{gateway.root}/metrics") as answer:
            lines = answer.read().decode().splitlines()
    assert 'parley_requests_total{code="200",key="",model="engine",route="/v1/chat/completions"} 2.0' in lines
    assert 'parley_time_to_first_token_seconds_count{model="engine"} 1.0' in lines
    assert 'parley_model_state{model="engine",state="ready"} 1.0' in lines
