"""Every address of the page, requested by a rater and a stranger: no response names a model too early.

`python -m bench.blind` does the same over HTTP, with times and sizes; here each kind of address is a case.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.lifecycle import create_campaign, open_campaign
from evals.votes.prompts import add_prompts
from tests.ui.conftest import NAMES, Keyed, Page
from tests.ui.raters.test_campaign_pages import campaign, link, next_pair, post

_NAME = "leaks"
_ROOT = f"/vote/c/{_NAME}"
_OWNERS = f"/campaigns/c/{_NAME}"
GETS = (
    # The page, its config and its files.
    f"{_ROOT}/", f"{_ROOT}/config", f"{_ROOT}/theme.css", f"{_ROOT}/favicon.ico", f"{_ROOT}/static/nothing",
    f"{_ROOT}/gradio_api/startup-events", f"{_ROOT}/gradio_api/app_id", "/vote/", "/vote/config", "/vote/api/state",
    f"{_ROOT}/gradio_api/file=/etc/passwd", f"{_ROOT}/gradio_api/info", f"{_ROOT}/gradio_api/openapi.json",
    # The queue, and the plain routes with a wrong method or name.
    f"{_ROOT}/gradio_api/queue/data?session_hash=x", f"{_ROOT}/gradio_api/queue/status", f"{_ROOT}/api/state",
    f"{_ROOT}/api/vote", f"{_ROOT}/api/nothing", "/vote/c/nowhere/", "/vote/c/nowhere/api/state",
    # Invites that do not exist.
    "/vote/i/forged", "/vote/i/", "/vote/r/forged", "/vote/r/",
    # Reports, exports, and the owners' side.
    f"{_OWNERS}/report", f"{_OWNERS}/export", f"{_OWNERS}/", f"{_OWNERS}/config", f"/campaigns/export?campaign={_NAME}",
    f"{_OWNERS}/gradio_api/queue/data?session_hash=x", "/", "/config", "/gradio_api/info", "/login", "/health",
    "/bot/", "/bot/nobody/", "/bot/config", "/nowhere",
)  # fmt: skip
POSTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (f"{_ROOT}/gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": "x"}),
    (f"{_OWNERS}/gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": "x"}),
    ("/gradio_api/queue/join", {"fn_index": 0, "data": [], "session_hash": "x"}),
    (f"{_ROOT}/gradio_api/run/predict", {"data": []}),
    (f"{_ROOT}/gradio_api/upload", {}),
    (f"{_ROOT}/api/vote", {"battle": "forged", "choice": "left"}),
    (f"{_ROOT}/api/vote", {"battle": "forged", "choice": NAMES[0]}),
    (f"{_ROOT}/api/skip", {"battle": "forged", "reason": "because"}),
    (f"{_ROOT}/api/undo", {}),
    (f"{_ROOT}/api/next", {"prompt": "Which model are you?"}),
    (f"{_ROOT}/api/next", {"models": list(NAMES)}),
    ("/vote/i/forged", {}),
    ("/login", {"key": "pk-wrong"}),
)


@pytest.fixture(scope="module")
def visitors(keyed_page: Keyed) -> dict[str, TestClient]:
    """A rater with an open pair and a vote, and a stranger."""
    page = keyed_page.page
    campaign(page, _NAME)
    rater = page.browser()
    rater.get(link(page, _NAME, "Ann"))
    first = next_pair(rater, _NAME)
    assert post(rater, _NAME, "vote", battle=first["id"], choice="left").status_code == 200
    next_pair(rater, _NAME)
    return {"rater": rater, "stranger": page.browser()}


def names_in(answer: Any) -> list[str]:
    everything = answer.text + json.dumps(dict(answer.headers))
    return [name for name in NAMES if name in everything or name.split("/")[-1] in everything]


@pytest.mark.parametrize("who", ["rater", "stranger"])
@pytest.mark.parametrize("address", GETS)
def test_no_address_names_a_model(visitors: dict[str, TestClient], who: str, address: str) -> None:
    answer = visitors[who].get(address)
    assert answer.status_code < 500
    assert names_in(answer) == []


@pytest.mark.parametrize("who", ["rater", "stranger"])
@pytest.mark.parametrize(("address", "body"), POSTS)
def test_no_request_is_answered_with_a_name(
    visitors: dict[str, TestClient], who: str, address: str, body: dict[str, Any]
) -> None:
    answer = visitors[who].post(address, json=body)
    assert answer.status_code < 500
    assert names_in(answer) == []


def test_an_invites_pages_name_no_model(keyed_page: Keyed) -> None:
    page = keyed_page.page
    campaign(page, "invites-leak")
    group = link(page, "invites-leak", "Team", is_group=True)
    client = page.browser()
    answers = [client.get(group), client.post(group, data={"name": " "}), client.post(group, data={"name": "Bo"})]
    answers += [page.browser().post(group, data={"name": "Bo"}), client.get("/vote/c/invites-leak/api/state")]
    answers.append(client.get(answers[-1].json()["link"]))
    assert [answer.status_code for answer in answers] == [200, 400, 303, 409, 200, 303]
    assert [names_in(answer) for answer in answers] == [[]] * 6


@pytest.mark.long
def test_a_model_that_does_not_answer_is_not_named(keyed_page: Keyed) -> None:
    page: Page = keyed_page.page
    add_prompts(page.database, [{"prompt": "Not prepared?", "category": "unprepared"}], "test")
    new = NewCampaign("unprepared", NAMES[:2], PromptSource(stored="category:unprepared"))
    create_campaign(page.database, new, Path())
    open_campaign(page.database, "unprepared")
    client = page.browser()
    client.get(link(page, "unprepared", "Ann"))
    answer = post(client, "unprepared", "next")
    assert answer.status_code == 503
    assert names_in(answer) == []
