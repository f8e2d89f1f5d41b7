"""Keys with scopes and limits at a running gateway, with the real SDK: visible models, limits and costs."""

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from models.database import Database, utcnow
from models.keys import KeyLimits, change_key, create_key, find_key, list_keys, revoke_key
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from models.usage import Sums, read_usage
from serve.accounting.request_logs import AccessLog, UsageLog
from serve.gateway import snapshot
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_inference_handler import HELLO

USED = 11  # tokens of each of the upstream's answers, by its own count


def made(gateway: Serving, name: str = "app", models: list[str] | None = None, **limits: Any) -> openai.OpenAI:
    """A client with a new key that the gateway knows."""
    secret = create_key(gateway.database, name=name, role="client", models=models, limits=KeyLimits(**limits))
    gateway.seen(lambda snapshot: any(key.name == name for key in snapshot.keys.values()))
    return openai.OpenAI(base_url=gateway.base_url, api_key=secret, max_retries=0)


def used(gateway: Serving, requests: int) -> dict[str, Sums]:
    """Model → sums, once that many requests are in the table."""
    deadline = time.monotonic() + 5
    rows = read_usage(gateway.database)
    while sum(row.sums.requests for row in rows) < requests:
        assert time.monotonic() < deadline, rows
        time.sleep(0.05)
        rows = read_usage(gateway.database)
    return {row.model: row.sums for row in rows}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Usage is on disk and changes are read within a moment."""
    monkeypatch.setattr(UsageLog, "interval_s", 0.05)
    monkeypatch.setattr(AccessLog, "interval_s", 0.05)
    monkeypatch.setattr(snapshot, "_POLL_INTERVAL_S", 0.02)


@pytest.fixture
def models(gateway: Serving, upstream: PacedUpstream) -> Serving:
    """Hosted models of the paced upstream: `priced` at 1,000 and 10,000 dollars a million, and an alias of it."""
    gateway.hosted("whole", "busy", "hangs", "drips", base_url=f"{upstream.address}/v1")
    prices = {"usd_per_million_input": 1_000.0, "usd_per_million_output": 10_000.0}
    there = Upstream(base_url=f"{upstream.address}/v1", model="whole", **prices)
    gateway.registry.register(ModelSpec(id="priced", kind="hosted", upstream=there))
    gateway.registry.alias("bot", "priced")
    gateway.seen(lambda snapshot: "bot" in snapshot.routes)
    return gateway


def test_a_scope_of_ids_opens_a_model_under_any_of_its_names_and_no_other(models: Serving) -> None:
    client = made(models, models=["priced"])
    assert [model.id for model in client.models.list()] == ["priced", "bot"]
    for name in ("priced", "bot"):
        assert client.chat.completions.create(model=name, messages=HELLO).choices
        assert client.models.retrieve(name).id == name
    messages = []
    for name in ("whole", "nobody"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model=name, messages=HELLO)
        assert refused.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError) as unseen:
            client.models.retrieve(name)
        messages.append((refused.value.message.replace(name, "…"), unseen.value.message.replace(name, "…")))
    assert messages[0] == messages[1], "the answer tells which models there are"


def test_a_scope_of_an_alias_is_that_name_wherever_it_points(models: Serving) -> None:
    client = made(models, models=["bot"])
    assert [model.id for model in client.models.list()] == ["bot"]
    assert client.chat.completions.create(model="bot", messages=HELLO).choices
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="priced", messages=HELLO)
    models.registry.alias("bot", "whole")
    models.seen(lambda snapshot: snapshot.aliases["bot"] == "whole")
    assert client.chat.completions.create(model="bot", messages=HELLO).choices
    assert set(used(models, 2)) == {"priced", "whole"}


def test_requests_over_the_minutes_limit_are_raised_by_the_sdk_with_openais_headers(models: Serving) -> None:
    client = made(models, requests_per_minute=2)
    answer = client.chat.completions.with_raw_response.create(model="whole", messages=HELLO)
    assert answer.headers["x-ratelimit-limit-requests"] == "2"
    assert answer.headers["x-ratelimit-remaining-requests"] == "1"
    assert answer.headers["x-ratelimit-reset-requests"] == "30s"
    list(client.chat.completions.create(model="whole", messages=HELLO, stream=True))
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="whole", messages=HELLO)
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "requests")
    headers = refused.value.response.headers
    assert 29 <= int(headers["retry-after"]) <= 30
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert "x-should-retry" not in headers
    assert client.models.list(), "only requests for a model count"


@pytest.mark.long
def test_the_sdks_own_retry_waits_for_retry_after(models: Serving) -> None:
    client = made(models, requests_per_minute=20)  # one more every three seconds
    with pytest.raises(openai.RateLimitError) as refused:
        while True:
            client.chat.completions.create(model="whole", messages=HELLO)
    wait_s = int(refused.value.response.headers["retry-after"])
    before = time.monotonic()
    answer = client.with_options(max_retries=1).chat.completions.with_raw_response.create(model="whole", messages=HELLO)
    assert answer.retries_taken == 1
    assert time.monotonic() - before > wait_s - 1.5


def test_tokens_are_settled_by_what_the_upstream_counted(models: Serving, upstream: PacedUpstream) -> None:
    client = made(models, tokens_per_minute=600)
    answer = client.chat.completions.with_raw_response.create(model="whole", messages=HELLO, max_tokens=500)
    assert 60 <= int(answer.headers["x-ratelimit-remaining-tokens"]) <= 90
    again = client.chat.completions.with_raw_response.create(model="whole", messages=HELLO, max_tokens=500)
    assert 50 <= int(again.headers["x-ratelimit-remaining-tokens"]) <= 90
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="whole", messages=HELLO, max_tokens=300, n=2)
    assert refused.value.type == "tokens"
    assert refused.value.response.headers["x-should-retry"] == "false"


@pytest.mark.long
def test_a_refusal_by_an_upstream_is_refunded_and_its_own_retry_after_counts(models: Serving) -> None:
    client = made(models, tokens_per_minute=600, daily_tokens=600)
    for _ in range(3):
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="busy", messages=HELLO, max_tokens=500)
        assert refused.value.message.endswith("'slow down'}") or "slow down" in refused.value.message
        assert refused.value.response.headers.get_list("retry-after") == ["7"]
    assert used(models, 3)["busy"] == Sums(3, 3)


@pytest.mark.long
def test_an_upstreams_own_limits_are_reported_for_keys_without_limits(models: Serving, upstream: PacedUpstream) -> None:
    models.hosted("counts", base_url=f"{upstream.address}/v1")
    remaining = {}
    limited: dict[str, dict[str, Any]] = {"free": {}, "bounded": {"requests_per_minute": 9}}
    for name, limits in limited.items():
        client = made(models, name, **limits)
        answer = client.chat.completions.with_raw_response.create(model="counts", messages=HELLO)
        remaining[name] = [answer.headers.get_list(f"x-ratelimit-remaining-{what}") for what in ("requests", "tokens")]
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="busy", messages=HELLO)
        headers = refused.value.response.headers
        assert headers.get_list("x-ratelimit-remaining-requests") == ["0"]
        assert headers.get_list("x-ratelimit-reset-requests") == ["7s"]
    assert remaining == {"free": [["41"], ["4100"]], "bounded": [["8"], ["4100"]]}


@pytest.mark.long
def test_a_days_tokens_apply_and_survive_a_restart(
    settings: Settings, database: Database, upstream: PacedUpstream
) -> None:
    with serving(settings, database) as first:
        first.hosted("whole", base_url=f"{upstream.address}/v1")
        client = made(first, daily_tokens=2 * USED)
        for _ in range(2):
            client.chat.completions.create(model="whole", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            client.with_options(max_retries=2).chat.completions.create(model="whole", messages=HELLO)
        assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert int(refused.value.response.headers["retry-after"]) <= 86_400
    assert sum(row.sums.tokens for row in read_usage(database)) == 2 * USED, "a stop loses nothing"
    assert sum(row.sums.requests for row in read_usage(database)) == 3, "the SDK did not try again"
    with serving(settings, database) as second:
        with pytest.raises(openai.RateLimitError):
            client.with_options(base_url=second.base_url).chat.completions.create(model="whole", messages=HELLO)
        key = find_key(database, "app")
        change_key(database, key.id, models=None, limits=KeyLimits(daily_tokens=3 * USED), expires=None)
        second.seen(lambda snapshot: next(iter(snapshot.keys.values())).limits.daily_tokens == 3 * USED)
        client.with_options(base_url=second.base_url).chat.completions.create(model="whole", messages=HELLO)


@pytest.mark.long
def test_a_days_money_applies_for_hosted_models(models: Serving) -> None:
    each = (7 * 1_000 + 4 * 10_000) / 1e6
    client = made(models, daily_usd=2 * each)
    for _ in range(2):
        client.chat.completions.create(model="bot", messages=HELLO)
    with pytest.raises(openai.RateLimitError, match="current quota"):
        client.chat.completions.create(model="priced", messages=HELLO)
    with pytest.raises(openai.PermissionDeniedError, match="prices") as unknown:
        made(models, "other", daily_usd=1.0).chat.completions.create(model="whole", messages=HELLO)
    assert unknown.value.code == "model_price_unknown"
    assert used(models, 4)["priced"] == Sums(3, 1, 14, 8, 2 * each)


@pytest.mark.long
def test_a_fallback_is_in_scope_has_a_price_and_is_what_was_used(models: Serving, upstream: PacedUpstream) -> None:
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 1.0}
    there = Upstream(base_url=f"{upstream.address}/v1", model="busy", **prices)
    spec = ModelSpec(id="first", kind="hosted", upstream=there, fallbacks=("hangs", "whole", "priced"))
    models.registry.register(spec)
    models.seen(lambda snapshot: "first" in snapshot.routes)
    client = made(models, models=["first", "whole", "priced"], daily_usd=1.0)
    answer = client.chat.completions.with_raw_response.create(model="first", messages=HELLO)
    assert answer.headers["x-parley-model"] == "priced"
    assert used(models, 1) == {"priced": Sums(1, 0, 7, 4, 0.047)}


@pytest.mark.long
def test_a_disconnect_in_the_middle_counts_the_tokens_so_far(models: Serving, upstream: PacedUpstream) -> None:
    client = made(models)
    with client.chat.completions.create(model="drips", messages=HELLO, stream=True) as stream:
        for _, _ in zip(range(2), stream, strict=False):
            pass
    sums = used(models, 1)["drips"]
    assert sums.failed == 0
    assert sums.prompt_tokens > 10
    assert 1 <= sums.completion_tokens <= 4


@pytest.mark.long
def test_a_disconnect_before_the_answer_counts_the_prompt(models: Serving, upstream: PacedUpstream) -> None:
    with pytest.raises(openai.APITimeoutError):
        made(models).chat.completions.create(model="hangs", messages=HELLO, timeout=0.5)
    sums = used(models, 1)["hangs"]
    assert sums.prompt_tokens > 10  # the upstream has read the prompt, and bills it


@pytest.mark.long
def test_a_stream_that_breaks_has_failed_and_was_used_all_the_same(models: Serving, upstream: PacedUpstream) -> None:
    models.hosted("stops", base_url=f"{upstream.address}/v1")
    with pytest.raises(openai.APIError):
        list(made(models).chat.completions.create(model="stops", messages=HELLO, stream=True))
    sums = used(models, 1)["stops"]
    assert (sums.requests, sums.failed) == (1, 1)
    assert sums.completion_tokens >= 1
    path = models.settings.logs_dir / "access.log"
    deadline = time.monotonic() + 5
    while not path.exists() or '"fault"' not in path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    line = json.loads(path.read_text().splitlines()[-1])
    assert (line["status"], line["fault"]) == (200, "broken")


def test_what_an_upstream_does_not_count_is_estimated(models: Serving, upstream: PacedUpstream) -> None:
    models.hosted("miscounts", base_url=f"{upstream.address}/v1")
    client = made(models, daily_tokens=60)
    answer = client.chat.completions.with_raw_response.create(model="miscounts", messages=HELLO)
    sums = used(models, 1)["miscounts"]
    assert sums.completion_tokens == len(answer.content) // 4 + 1
    assert sums.prompt_tokens == len(answer.http_request.content) // 4 + 1
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="miscounts", messages=HELLO)


@pytest.mark.long
@pytest.mark.parametrize("how", ["expires", "revoked", "bounded"])
def test_a_change_of_a_key_takes_effect_without_a_restart(
    models: Serving, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_POLL_INTERVAL_S", 0.25)  # the default
    client = made(models)
    key = list_keys(models.database)[0]
    now = utcnow()
    if how == "revoked":
        revoke_key(models.database, key.id)
    else:
        # One change at a time: a limit that is read before the key expires would answer 429 to the second request.
        end = now + timedelta(seconds=0.3) if how == "expires" else None
        limits = KeyLimits(requests_per_minute=1 if how == "bounded" else None)
        change_key(models.database, key.id, models=None, limits=limits, expires=end)
    with pytest.raises((openai.AuthenticationError, openai.RateLimitError)) as refused:
        for _ in range(300):  # half a minute: a busy machine is slow, and the state is what counts
            client.chat.completions.create(model="whole", messages=HELLO)
            time.sleep(0.1)
    assert refused.value.status_code == (429 if how == "bounded" else 401)


@pytest.mark.long
def test_the_access_log_has_each_request_and_no_content(models: Serving, upstream: PacedUpstream) -> None:
    client = made(models, "shop")
    messages: list = [{"role": "user", "content": "my secret question"}]
    answer = client.chat.completions.with_raw_response.create(model="bot", messages=messages)
    list(client.chat.completions.create(model="drips", messages=messages, stream=True))
    with pytest.raises(openai.APIStatusError):
        client.post("/my-secret/path", body={}, cast_to=object)
    client.models.list()
    path = models.settings.logs_dir / "access.log"
    deadline = time.monotonic() + 5
    while not path.exists() or len(path.read_text().splitlines()) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    text = path.read_text()
    assert "secret" not in text
    assert client.api_key not in text
    assert "w0" not in text
    # A line is written when its request has ended, so the order of lines is not the order of requests.
    lines = list(map(json.loads, text.splitlines()))
    assert len(lines) == 4
    stream = next(line for line in lines if line.get("stream"))
    whole = next(line for line in lines if line["route"] == "/v1/chat/completions" and not line.get("stream"))
    unknown = next(line for line in lines if line["route"] == "other")
    listed = next(line for line in lines if line["route"] == "/v1/models")
    assert whole["id"] == answer.headers["x-request-id"]
    assert (whole["key"], whole["model"], whole["route"]) == ("shop", "priced", "/v1/chat/completions")
    assert (whole["status"], whole["prompt_tokens"], whole["completion_tokens"]) == (200, 7, 4)
    assert whole["bytes"] == len(answer.content)
    assert whole["client"] == "127.0.0.1"
    assert stream["stream"] is True
    assert 0 < stream["ttft"] < stream["seconds"]
    assert unknown["status"] == 404
    assert listed["method"] == "GET"


def test_without_the_setting_there_is_no_access_log(
    settings: Settings, database: Database, upstream: PacedUpstream
) -> None:
    with serving(settings.model_copy(update={"access_log": False}), database) as gateway:
        made(gateway).models.list()
    assert not Path(settings.logs_dir / "access.log").exists()
