"""Variants of a route's path, and the headers that a key may be sent in."""

import json
import urllib.error
import urllib.request

import pytest

from models.keys import create_key
from tests.serve.gateways import Serving
from tests.serve.paced_upstream import PacedUpstream

CHAT = json.dumps({"model": "whole", "messages": [{"role": "user", "content": "hello"}]}).encode()


def ask(address: str, data: bytes | None = None, method: str | None = None, **headers: str) -> tuple[int, dict]:
    head = {"content-type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, head, method=method), timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/v1/chat/completions/", "//v1/chat/completions", "/v1//chat//completions"]
)
def test_public_routes_are_served_under_path_variants(both: Serving, upstream: PacedUpstream, path: str) -> None:
    status, answer = ask(both.root + path, CHAT)
    assert (status, answer["object"]) == (200, "chat.completion")
    assert len(upstream.seen.requests) == 1


@pytest.mark.parametrize("path", ["/models", "/models/", "//v1/models", "/v1/models/whole/", "/models/whole"])
def test_models_are_read_under_path_variants(both: Serving, path: str) -> None:
    status, answer = ask(both.root + path)
    assert status == 200
    assert answer["object"] in ("list", "model")


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/api/v1/chat/completions", "/v1/chat/completions"),
        ("POST", "/openai/v1/responses/", "/v1/responses"),
        ("DELETE", "/models/whole", "/v1/models/whole"),
        # The address of a route in place of the base URL, and Azure's addresses
        ("POST", "/v1/chat/completions/chat/completions", "/v1/chat/completions"),
        ("POST", "/chat/completions/chat/completions", "/v1/chat/completions"),
        ("POST", "/v1/responses/responses", "/v1/responses"),
        ("GET", "/v1/completions/models", "/v1/models"),
        ("POST", "/openai/deployments/whole/chat/completions", "/v1/chat/completions"),
    ],
)
def test_variants_of_other_routes_get_a_404_with_the_right_path(
    both: Serving, method: str, path: str, right: str
) -> None:
    status, error = ask(both.root + path, CHAT, method)
    assert (status, error["code"]) == (404, "unknown_url")
    assert error["message"].endswith(f": use {right}.")


@pytest.mark.parametrize("path", ["/v1/../metrics", "/./v1/models", "/%2fv1/models", "/v1/models/..", "/v1/%6dodels/"])
def test_ambiguous_paths_stay_refused(both: Serving, path: str) -> None:
    assert ask(both.root + path)[0] in (400, 404)


@pytest.mark.long
def test_a_path_variant_needs_the_same_permissions(gateway: Serving, upstream: PacedUpstream) -> None:
    gateway.hosted("whole", "hidden", base_url=f"{upstream.address}/v1")
    key = create_key(gateway.database, name="app", role="client", models=["whole"])
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    assert ask(f"{gateway.root}//chat/completions", CHAT)[0] == 401
    assert ask(f"{gateway.root}/chat/completions", CHAT.replace(b"whole", b"hidden"), x_api_key=key)[0] == 404
    assert [model["id"] for model in ask(f"{gateway.root}/models/", x_api_key=key)[1]["data"]] == ["whole"]
    for path in ("/metrics/", "//metrics", "/v1//metrics"):
        assert ask(gateway.root + path, x_api_key=key)[0] in (400, 403, 404)
    assert not upstream.seen.requests


@pytest.mark.long
def test_keys_are_read_from_three_headers(gateway: Serving, upstream: PacedUpstream) -> None:
    gateway.hosted("whole", base_url=f"{upstream.address}/v1")
    key = create_key(gateway.database, name="app", role="client")
    gateway.seen(lambda snapshot: snapshot.keys_needed)
    address = f"{gateway.base_url}/chat/completions"
    for header in ({"authorization": f"Bearer {key}"}, {"x_api_key": key}, {"api_key": key}):
        assert ask(address, CHAT, **header)[0] == 200
    assert ask(address, CHAT, x_api_key=key + "x")[1]["message"] == "Incorrect API key provided."
    # Of two headers, Authorization counts: a wrong key in it is not replaced by a right one elsewhere.
    assert ask(address, CHAT, authorization="Bearer wrong", x_api_key=key)[0] == 401
    sent = [name for headers in upstream.seen.headers for name in headers]
    assert not {"x-api-key", "api-key", "authorization"} & set(sent)
