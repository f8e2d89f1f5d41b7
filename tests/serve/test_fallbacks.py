"""Fallback models, and circuit breakers that skip a failing model; on real sockets."""

import json
import socket
import threading
import time
from pathlib import Path

import openai
import pytest

from models.database import Database
from models.errors import Invalid
from models.keys import create_key
from models.registry.fallbacks import set_fallbacks
from models.settings.settings import load_settings
from models.spec import ModelSpec, Upstream
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_inference_handler import HELLO, post


def hosted(gateway: Serving, name: str, base_url: str, *fallbacks: str, model: str | None = None) -> None:
    upstream = Upstream(base_url=base_url, model=model or name)
    gateway.registry.register(ModelSpec(id=name, kind="hosted", upstream=upstream, fallbacks=fallbacks))
    gateway.seen(lambda snapshot: name in snapshot.routes)


@pytest.fixture
def nobody() -> str:
    """An address without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/v1"


@pytest.mark.long
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("first", ["nobody", "busy", "fails", "crashes", "hangs"])
def test_the_next_one_answers_before_a_byte_is_sent(
    database: Database, home: Path, upstream: PacedUpstream, nobody: str, first: str, stream: bool
) -> None:
    with serving(load_settings(home=home, first_byte_timeout_s=0.4), database) as gateway:
        there = f"{upstream.address}/v1"
        hosted(gateway, "spare", there, model="whole")
        hosted(gateway, "main", nobody if first == "nobody" else there, "spare", model=first)
        status, headers, body = post(gateway, {"model": "main", "messages": HELLO, "stream": stream})
        assert status == 200
        assert headers["x-parley-model"] == "spare"
        assert (b"[DONE]" in body) is stream
        assert upstream.seen.requests[-1]["model"] == "whole"
        # A request is recorded after it has ended, a moment after its client knows.
        used = 'parley_tokens_total{direction="completion",key="",model="spare"} 4.0'
        deadline = time.monotonic() + 5
        while used not in (figures := gateway.app.metrics.text().decode()):
            assert time.monotonic() < deadline, figures
            time.sleep(0.01)
        assert 'parley_fallbacks_total{model="main",to="spare"} 1.0' in figures
        assert 'parley_tokens_total{direction="completion",key="",model="main"}' not in figures


@pytest.mark.long
def test_a_stream_that_has_begun_is_never_begun_again(gateway: Serving, upstream: PacedUpstream) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "spare", there, model="whole")
    hosted(gateway, "main", there, "spare", model="breaks")
    status, headers, body = post(gateway, {"model": "main", "messages": HELLO, "stream": True})
    assert (status, headers["x-parley-model"]) == (200, "main")
    assert b"[DONE]" not in body
    assert len(upstream.seen.requests) == 1


@pytest.mark.long
def test_the_last_one_answers_for_itself(gateway: Serving, upstream: PacedUpstream, nobody: str) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "spare", there, model="busy")
    hosted(gateway, "other", there, model="fails")
    hosted(gateway, "main", nobody, "other", "spare")
    status, headers, body = post(gateway, {"model": "main", "messages": HELLO})
    assert (status, headers["retry-after"], headers["x-parley-model"]) == (429, "7", "spare")
    assert json.loads(body)["error"]["message"] == "slow down"


@pytest.mark.long
def test_two_models_can_be_each_others_fallback(gateway: Serving, upstream: PacedUpstream) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "a", there, model="fails")
    hosted(gateway, "b", there, "a", model="busy")
    set_fallbacks(gateway.registry, "a", ["b"])
    gateway.seen(lambda snapshot: snapshot.routes["a"].fallbacks == ("b",))
    for first, status in (("a", 429), ("b", 503)):
        upstream.seen.requests.clear()
        assert post(gateway, {"model": first, "messages": HELLO})[0] == status
        assert len(upstream.seen.requests) == 2, "each is asked once"
    set_fallbacks(gateway.registry, "a", [])
    gateway.seen(lambda snapshot: snapshot.routes["a"].fallbacks == ())
    for fallbacks, message in [(["a"], "its own fallback"), (["nobody"], "not registered"), (["b", "b"], "twice")]:
        with pytest.raises(Invalid, match=message):
            set_fallbacks(gateway.registry, "a", fallbacks)


@pytest.mark.long
def test_a_refusal_of_the_request_itself_goes_nowhere_else(gateway: Serving, upstream: PacedUpstream) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "spare", there, model="whole")
    hosted(gateway, "main", there, "spare", model="stutters")
    assert post(gateway, {"model": "main", "messages": HELLO})[0] == 400
    assert len(upstream.seen.requests) == 1


@pytest.mark.long
def test_an_engine_may_stand_in_and_gets_what_an_engine_may_get(
    gateway: Serving, upstream: PacedUpstream, nobody: str, tmp_path: Path
) -> None:
    gateway.engine("own", tmp_path / "weights", upstream.address)
    hosted(gateway, "main", nobody, "own")
    status, headers, _ = post(gateway, {"model": "main", "messages": HELLO, "surprise": 1})
    assert (status, headers["x-parley-model"]) == (200, "own")
    assert upstream.seen.requests == [{"model": "own", "messages": HELLO}]


@pytest.mark.long
def test_a_key_gets_no_further_than_its_scope(gateway: Serving, upstream: PacedUpstream, nobody: str) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "secret", there, model="whole")
    hosted(gateway, "open", there, model="whole")
    hosted(gateway, "main", nobody, "secret", "open")
    secret = create_key(gateway.database, name="app", role="client", models=("main", "open"))
    gateway.seen(lambda snapshot: snapshot.keys)
    client = openai.OpenAI(base_url=gateway.base_url, api_key=secret, max_retries=0)
    answer = client.chat.completions.with_raw_response.create(model="main", messages=HELLO)
    assert answer.headers["x-parley-model"] == "open"


@pytest.mark.long
def test_a_breaker_opens_answers_at_once_and_closes_by_a_probe(
    gateway: Serving, upstream: PacedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.gateway.server_limits._OPEN_S", 0.5)
    hosted(gateway, "main", f"{upstream.address}/v1", model="fails")
    for _ in range(5):
        assert post(gateway, {"model": "main", "messages": HELLO})[0] == 503
    assert len(upstream.seen.requests) == 5
    assert 'parley_breaker_state{model="main",state="open"} 1.0' in gateway.app.metrics.text().decode()
    took = []
    for _ in range(20):
        status, headers, body = post(gateway, {"model": "main", "messages": HELLO})
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"failed repeatedly" in body
        took.append(int(headers["openai-processing-ms"]))
    assert sorted(took)[10] < 10
    assert len(upstream.seen.requests) == 5
    time.sleep(0.5)
    assert post(gateway, {"model": "main", "messages": HELLO})[0] == 503
    assert len(upstream.seen.requests) == 6, "one probe"
    assert b"failed repeatedly" in post(gateway, {"model": "main", "messages": HELLO})[2]
    assert len(upstream.seen.requests) == 6, "which failed, so it rests again, twice as long"
    upstream.heals.add("fails")
    try:
        time.sleep(1.1)
        assert post(gateway, {"model": "main", "messages": HELLO})[0] == 200
        assert 'parley_breaker_state{model="main",state="closed"} 1.0' in gateway.app.metrics.text().decode()
        assert post(gateway, {"model": "main", "messages": HELLO})[0] == 200
    finally:
        upstream.heals.clear()


@pytest.mark.long
def test_an_open_breaker_passes_requests_to_the_spare_at_once(gateway: Serving, upstream: PacedUpstream) -> None:
    there = f"{upstream.address}/v1"
    hosted(gateway, "spare", there, model="whole")
    hosted(gateway, "main", there, "spare", model="fails")
    for _ in range(8):
        assert post(gateway, {"model": "main", "messages": HELLO})[1]["x-parley-model"] == "spare"
    assert [request["model"] for request in upstream.seen.requests].count("fails") == 5


@pytest.mark.long
def test_requests_that_are_wrong_open_no_breaker(gateway: Serving, upstream: PacedUpstream) -> None:
    hosted(gateway, "main", f"{upstream.address}/v1", model="stutters")
    hosted(gateway, "limited", f"{upstream.address}/v1", model="busy")
    for _ in range(12):
        assert post(gateway, {"model": "main", "messages": HELLO})[0] == 400
        assert post(gateway, {"model": "limited", "messages": HELLO})[0] == 429
    assert len(upstream.seen.requests) == 24


@pytest.mark.long
def test_a_local_model_that_does_not_start_in_time_or_has_failed_uses_its_fallback(
    database: Database, home: Path, upstream: PacedUpstream, tmp_path: Path
) -> None:
    with serving(load_settings(home=home, queue_wait_s=0.4), database) as gateway:
        hosted(gateway, "spare", f"{upstream.address}/v1", model="whole")
        gateway.engine("main", tmp_path / "weights", None, fallbacks=("spare",))
        began = time.monotonic()
        status, headers, _ = post(gateway, {"model": "main", "messages": HELLO})
        assert (status, headers["x-parley-model"]) == (200, "spare")
        assert time.monotonic() - began >= 0.4, "it has waited as its queue says"
        gateway.publish("main", None, state="failed")
        began = time.monotonic()
        status, headers, _ = post(gateway, {"model": "main", "messages": HELLO})
        assert (status, headers["x-parley-model"]) == (200, "spare")
        assert time.monotonic() - began < 0.4, "there is nothing to wait for"
        gateway.publish("main", upstream.address)
        assert post(gateway, {"model": "main", "messages": HELLO})[1]["x-parley-model"] == "main"


@pytest.mark.long
def test_a_fallback_that_starts_is_waited_for_and_one_that_runs_comes_first(
    gateway: Serving, upstream: PacedUpstream, nobody: str, tmp_path: Path
) -> None:
    gateway.engine("starts", tmp_path / "weights", None)
    hosted(gateway, "main", nobody, "starts")
    ready = threading.Timer(0.5, gateway.publish, ("starts", upstream.address))
    ready.start()
    status, headers, _ = post(gateway, {"model": "main", "messages": HELLO})
    ready.join()
    assert (status, headers["x-parley-model"]) == (200, "starts")
    gateway.publish("starts", None)
    hosted(gateway, "runs", f"{upstream.address}/v1", model="whole")
    hosted(gateway, "other", nobody, "starts", "runs")
    assert post(gateway, {"model": "other", "messages": HELLO})[1]["x-parley-model"] == "runs"
