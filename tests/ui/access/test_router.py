"""Access to each address: the owners' app with a key, the raters' and the bots' without, and nothing across."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.database import Database
from models.keys import create_key, list_keys, revoke_key
from parley import build
from tests.stack import ROOT
from tests.ui.conftest import Keyed, Page
from ui.access.cookies import OWNER_COOKIE, VOTER_COOKIE

# Gradio routes that the page does not use: files, proxies, uploads, its API, its history, its monitoring.
ABSENT_ROUTES = (
    "/gradio_api/info",
    "/gradio_api/file=/etc/passwd",
    "/gradio_api/proxy=https://example.org",
    "/gradio_api/upload",
    "/gradio_api/call/arrive",
    "/gradio_api/run/arrive",
    "/gradio_api/component_server",
    "/gradio_api/deep_link",
    "/gradio_api/openapi.json",
    "/gradio_api/runs",
    "/gradio_api/vibe-edit",
    "/monitoring",
    "/manifest.json",
    "/docs",
)


def sign_in(keyed: Keyed, key: str):
    """A client after POST /login with this key, and the response."""
    client = keyed.page.browser()
    return client, client.post("/login", data={"key": key, "after": "/"})


@pytest.mark.long
def test_the_three_apps_are_there(open_page: Page):
    client = open_page.browser()
    for address in ("/", "/vote/", "/bot/quokka-terse/", "/bot/org/numbat-base/", "/config", "/vote/config"):
        assert client.get(address).status_code == 200, address
    assert client.get("/health").text == "ok"
    assert client.get("/vote").headers["location"].endswith("/vote/")
    assert client.get("/bot/quokka-terse").headers["location"] == "/bot/quokka-terse/"


@pytest.mark.long
def test_an_unknown_bot_is_a_friendly_page(open_page: Page):
    for address in ("/bot/nobody/", "/bot/nobody", "/bot/", "/bot", "/bot/quokka-terse/gradio_api/upload"):
        answer = open_page.browser().get(address)
        assert answer.status_code == 404
        assert "No such bot" in answer.text


@pytest.mark.parametrize("root", ["", "/vote", "/bot/quokka-terse"])
@pytest.mark.parametrize("address", ABSENT_ROUTES)
def test_gradios_other_routes_do_not_exist(open_page: Page, root: str, address: str):
    for method in ("GET", "POST"):
        assert open_page.browser().request(method, root + address).status_code in (404, 405)


@pytest.mark.long
@pytest.mark.parametrize(
    "address", ["/", "/config", "/theme.css", "/gradio_api/queue/data?session_hash=x", "/gradio_api/app_id", "/nowhere"]
)
def test_without_a_key_the_owners_app_is_closed(keyed_page: Keyed, address: str):
    client = keyed_page.page.browser()
    answer = client.get(address)
    assert answer.status_code == 401
    assert "quokka" not in answer.text
    browser = client.get(address, headers={"accept": "text/html"})
    assert browser.status_code == 303
    assert browser.headers["location"].startswith("/login?after=/")
    assert client.post("/gradio_api/queue/join", json={"fn_index": 0, "data": []}).status_code == 401


@pytest.mark.parametrize(
    "address",
    [
        "/vote/../config",
        "/vote/..%2fconfig",
        "/vote//config",
        "//config",
        "/bot/quokka-terse/../../config",
        "/VOTE/config",
    ],
)
def test_the_other_apps_do_not_reach_the_owners_app(keyed_page: Keyed, address: str):
    answer = keyed_page.page.browser().get(address)
    assert answer.status_code in (401, 404)
    assert "quokka" not in answer.text


def test_raters_and_bots_need_no_key(keyed_page: Keyed):
    client = keyed_page.page.browser()
    assert client.get("/vote/").status_code == 200
    assert client.get("/bot/quokka-terse/").status_code == 200


def test_the_apps_have_configs_of_their_own(keyed_page: Keyed):
    client, _ = sign_in(keyed_page, keyed_page.owner)
    configs = {root: client.get(f"{root}/config").json() for root in ("", "/vote", "/bot/quokka-terse")}
    assert len({config["app_id"] for config in configs.values()}) == 3
    ids = {root: json.dumps(config["components"]) for root, config in configs.items()}
    assert "chat-model" in ids[""]
    assert "vote-left" in ids["/vote"]
    for root, others in {"/vote": "chat-|compare-|judge-|board", "/bot/quokka-terse": "chat-|judge-|vote-"}.items():
        assert not re.search(others, ids[root])
    for config in configs.values():
        assert config["analytics_enabled"] is False
        assert config["footer_links"] == []
        assert all(dependency["api_visibility"] == "private" for dependency in config["dependencies"])


def test_an_owner_key_signs_in_until_it_is_revoked(keyed_page: Keyed, monkeypatch: pytest.MonkeyPatch):
    database = keyed_page.page.database
    key = create_key(database, name="leaving", role="owner")
    client, answer = sign_in(keyed_page, key)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert key not in cookie
    assert client.get("/config").status_code == 200
    revoke_key(database, next(info.id for info in list_keys(database) if info.name == "leaving"))
    sign_in(keyed_page, "pk-wrong")  # makes the page read the keys again now, not in two seconds
    assert client.get("/config").status_code == 401


def test_other_keys_do_not_sign_in(keyed_page: Keyed):
    for key in (keyed_page.client, "pk-wrong", "", "x" * 5000):
        client, answer = sign_in(keyed_page, key)
        assert answer.status_code == 401
        assert OWNER_COOKIE not in client.cookies
        assert client.get("/config").status_code == 401


def test_a_voters_cookie_is_not_an_owners_cookie(keyed_page: Keyed):
    client = keyed_page.page.browser()
    client.get("/vote/")
    voter = client.cookies[VOTER_COOKIE]
    for value in (voter, "forged", "eyJ4Ijox.fQ"):
        forged = keyed_page.page.browser(cookie=f"{OWNER_COOKIE}={value}")
        assert forged.get("/config").status_code == 401


def test_the_sign_in_leads_to_no_other_site(keyed_page: Keyed):
    for after in ("https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        client = keyed_page.page.browser()
        answer = client.post("/login", data={"key": keyed_page.owner, "after": after})
        assert answer.headers["location"] == "/"


def test_a_voter_gets_one_cookie_for_vote_alone(open_page: Page):
    client = open_page.browser()
    cookie = client.get("/vote/").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "Path=/vote" in cookie
    assert "set-cookie" not in client.get("/vote/").headers
    assert "set-cookie" not in client.get("/vote/config").headers
    forged = open_page.browser(cookie=f"{VOTER_COOKIE}=forged").get("/vote/")
    assert "set-cookie" in forged.headers


def test_another_sites_page_may_not_post(open_page: Page):
    body = {"fn_index": 0, "data": [], "session_hash": "x"}
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        answer = open_page.browser(origin=origin).post("/vote/gradio_api/queue/join", json=body)
        assert answer.status_code == 403


def test_the_commands_that_the_page_names_work(home: Path, database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PARLEY_HOME", str(home))
    named = {
        command
        for file in sorted((ROOT / "ui").rglob("*.py"))
        for command in re.findall(r"parley (keys create [^`<\n]+)", file.read_text("utf-8"))
    }
    assert named == {"keys create NAME --role owner", "keys create me --role owner"}
    for command in named:
        run = CliRunner().invoke(build(), command.split())
        assert run.exit_code == 0, (command, run.output)


def test_without_keys_only_loopback_names_are_answered(open_page: Page):
    assert open_page.browser(host="evil.example:7860").get("/").status_code == 421
    for host in ("localhost:7860", "127.0.0.1:7860", "[::1]:7860"):
        assert open_page.browser(host=host).get("/health").status_code == 200


def test_with_keys_any_name_is_answered(keyed_page: Keyed):
    assert keyed_page.page.browser(host="parley.example").get("/vote/").status_code == 200


def test_responses_forbid_foreign_content(keyed_page: Keyed):
    for address in ("/", "/vote/", "/login", "/bot/nobody", "/bot/quokka-terse/", "/vote/config"):
        policy = keyed_page.page.browser().get(address).headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
