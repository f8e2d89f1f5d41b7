"""CORS at a running gateway: off unless set, exact origins, preflights before any key, and no `*` anywhere."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.database import Database
from models.errors import Invalid
from models.keys import create_key
from models.settings.environment import child_environment
from models.settings.settings import Settings, load_settings
from tests.serve.gateways import Serving, serving

GOOD = "https://app.example.com"
PREFLIGHT = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}


def ask(gateway: Serving, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(gateway.root + path, headers=sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


def theirs(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control")}


@pytest.fixture
def open_to_one(settings: Settings, database: Database) -> Iterator[Serving]:
    create_key(database, name="somebody", role="client")
    with serving(settings.model_copy(update={"cors_origins": (GOOD,)}), database) as running:
        yield running


def test_without_the_setting_no_answer_speaks_of_origins(gateway: Serving) -> None:
    for method, more in (("GET", {}), ("OPTIONS", PREFLIGHT)):
        status, headers = ask(gateway, "/v1/models", method, origin=GOOD, **more)
        assert theirs(headers) == {}
        assert "vary" not in headers
        assert status == (200 if method == "GET" else 405)


def test_a_preflight_is_answered_before_any_key(open_to_one: Serving) -> None:
    for path in ("/v1/chat/completions", "/v1/models", "/v1/files"):
        status, headers = ask(open_to_one, path, "OPTIONS", origin=GOOD, **PREFLIGHT)
        assert status == 200
        assert theirs(headers) | {"access-control-expose-headers": ""} == {
            "access-control-allow-origin": GOOD,
            "access-control-allow-methods": "GET, POST, DELETE",
            "access-control-allow-headers": PREFLIGHT["access-control-request-headers"],
            "access-control-max-age": "600",
            "access-control-expose-headers": "",
        }
        assert headers["vary"] == "Origin"


def test_an_answer_may_be_read_by_that_origin_and_an_error_too(open_to_one: Serving) -> None:
    status, headers = ask(open_to_one, "/v1/models", origin=GOOD)
    assert status == 401
    assert headers["access-control-allow-origin"] == GOOD
    assert "x-ratelimit-remaining-tokens" in headers["access-control-expose-headers"]
    assert ask(open_to_one, "/health", origin=GOOD)[1]["access-control-allow-origin"] == GOOD


def test_no_other_origin_is_let_in(open_to_one: Serving, subtests: pytest.Subtests) -> None:
    for origin in [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://APP.example.com",
        "null",
        "*",
        "https://app.example.com:443",
        "https://evil.example",
    ]:
        with subtests.test(origin=origin):
            status, headers = ask(open_to_one, "/v1/models", "OPTIONS", origin=origin, **PREFLIGHT)
            assert (status, theirs(headers)) == (401, {})
            status, headers = ask(open_to_one, "/health", origin=origin)
            assert (status, theirs(headers), headers["vary"]) == (200, {}, "Origin")


def test_what_is_no_preflight_needs_a_key_and_odd_headers_are_not_given_back(open_to_one: Serving) -> None:
    assert ask(open_to_one, "/v1/models", "OPTIONS", origin=GOOD)[0] == 401
    odd = PREFLIGHT | {"access-control-request-headers": "a<b>, c"}
    assert "access-control-allow-headers" not in ask(open_to_one, "/v1/models", "OPTIONS", origin=GOOD, **odd)[1]


def test_origins_come_from_the_environment_with_commas_and_reach_our_processes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_CORS_ORIGINS", f"{GOOD}, http://localhost:3000")
    settings = load_settings(home=home)
    assert settings.cors_origins == (GOOD, "http://localhost:3000")
    assert child_environment(settings)["PARLEY_CORS_ORIGINS"] == f"{GOOD},http://localhost:3000"


@pytest.mark.parametrize(
    "wrong", ["*", "app.example.com", f"{GOOD}/", f"{GOOD}/path", "https://App.example.com", "null"]
)
def test_what_is_no_origin_is_refused_in_one_line(home: Path, wrong: str) -> None:
    with pytest.raises(Invalid, match="is not an origin"):
        load_settings(home=home, cors_origins=wrong)
