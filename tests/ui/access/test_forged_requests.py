"""Requests that no page of ours sends: 4xx, and no traceback in the log."""

import json
import logging
from typing import Any

import pytest

from tests.ui.conftest import NAMES, Page
from ui.access.cookies import VOTER_COOKIE

JOIN = "/gradio_api/queue/join"
GOOD: dict[str, Any] = {"fn_index": 0, "data": [], "session_hash": "mine", "event_data": None}
# What is wrong with a request to Gradio's event queue.
FORGED: list[tuple[str, str, Any]] = [
    ("POST", JOIN, GOOD | {"fn_index": 9999}),
    ("POST", JOIN, GOOD | {"fn_index": -1}),
    ("POST", JOIN, GOOD | {"fn_index": "x"}),
    ("POST", JOIN, GOOD | {"fn_index": None}),
    ("POST", JOIN, GOOD | {"fn_index": True}),
    ("POST", JOIN, GOOD | {"session_hash": None}),
    ("POST", JOIN, GOOD | {"session_hash": ["mine"]}),
    ("POST", JOIN, GOOD | {"data": "x"}),
    ("POST", JOIN, GOOD | {"data": [1] * 50}),
    ("POST", JOIN, {"fn_index": 0}),
    ("POST", JOIN, {}),
    ("POST", JOIN, []),
    ("POST", JOIN, None),
    ("POST", JOIN, b"{"),
    ("POST", JOIN, b"[" * 3000),
    ("GET", "/gradio_api/queue/data", None),
    ("GET", "/gradio_api/queue/data?session_hash=nobodys", None),
    ("POST", "/gradio_api/cancel", {"session_hash": "x", "fn_index": 9999, "event_id": "forged"}),
    ("POST", "/gradio_api/cancel", {}),
    ("POST", "/gradio_api/cancel", b"{"),
    ("POST", "/gradio_api/reset", {"event_id": "forged"}),
    ("POST", "/gradio_api/reset", {}),
    ("GET", "/gradio_api/heartbeat/%00", None),
    ("GET", "/assets/../../routes.py", None),
    ("GET", "/assets/nothing.js", None),
    ("GET", "/static/..%2f..%2froutes.py", None),
    ("PUT", JOIN, GOOD),
]


def send(page: Page, root: str, forged: tuple[str, str, Any]):
    method, address, body = forged
    client = page.browser()
    if isinstance(body, bytes):
        return client.request(method, root + address, content=body, headers={"content-type": "application/json"})
    return client.request(method, root + address, json=body)


@pytest.mark.parametrize("root", ["", "/vote", "/bot/quokka-terse"])
@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: f"{forged[1][-18:]} {str(forged[2])[:60]}")
def test_forged_requests_to_gradio(
    open_page: Page, root: str, forged: tuple[str, str, Any], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        answer = send(open_page, root, forged)
    assert 400 <= answer.status_code < 500, answer.text
    assert not any(name in answer.text for name in NAMES)
    assert "Traceback" not in caplog.text


@pytest.mark.long
@pytest.mark.parametrize(
    ("action", "body", "status"),
    [
        ("vote", {"battle": "forged", "choice": "left"}, 404),
        ("vote", {"battle": "\x00", "choice": "left"}, 404),
        ("vote", {"battle": "\ud800", "choice": "left"}, 404),
        ("vote", {"battle": "forged", "choice": "first"}, 400),
        ("vote", {"battle": 7, "choice": "left"}, 400),
        ("vote", {"battle": "forged", "choice": "left", "criteria": [1]}, 400),
        ("vote", {}, 400),
        ("vote", [], 400),
        ("vote", b"{", 400),
        ("vote", b"[" * 50_000, 400),
        ("vote", b" " * 200_000, 413),
        ("skip", {"battle": "forged", "reason": "other"}, 404),
        ("skip", {"battle": "forged", "reason": "because"}, 400),
        ("undo", {}, 404),
        ("next", {"prompt": 7}, 400),
        ("names", {}, 404),
        ("state", {}, 404),
    ],
)
def test_forged_requests_to_the_plain_routes(
    open_page: Page, action: str, body: Any, status: int, caplog: pytest.LogCaptureFixture
):
    client = open_page.browser()
    client.get("/vote/")
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with caplog.at_level(logging.WARNING):
        answer = client.post(f"/vote/api/{action}", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert "Traceback" not in caplog.text


def test_a_vote_needs_the_signed_cookie_and_json(open_page: Page):
    body = {"battle": "forged", "choice": "left"}
    assert open_page.browser().post("/vote/api/vote", json=body).status_code == 403
    forged = open_page.browser(cookie=f"{VOTER_COOKIE}=forged")
    assert forged.post("/vote/api/vote", json=body).status_code == 403
    client = open_page.browser()
    client.get("/vote/")
    assert (
        client.post("/vote/api/vote", content=b'{"battle": "x"}', headers={"content-type": "text/plain"}).status_code
        == 400
    )


@pytest.mark.parametrize("headers", [{"origin": "http://["}, {"host": "["}, {"host": "[::1"}])
def test_headers_that_are_no_addresses_are_refused(open_page: Page, headers: dict[str, str]):
    assert open_page.browser().post("/vote/api/next", json={}, headers=headers).status_code in (403, 421)


@pytest.mark.parametrize("after", ["http://[", "//[x", "/\\[", "https://evil.example/"])
def test_the_sign_in_page_goes_nowhere_else(open_page: Page, after: str):
    page = open_page.browser().get("/login", params={"after": after})
    assert page.status_code == 200
    assert 'name="after" value="/"' in page.text


@pytest.mark.long
@pytest.mark.parametrize("name", ["nope", "", "%ff", "a%00b"])
def test_the_report_of_no_campaign_is_404(open_page: Page, name: str):
    assert open_page.browser().get(f"/campaigns/c/{name}/report").status_code == 404
