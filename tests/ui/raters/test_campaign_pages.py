"""Campaigns for raters over HTTP: invites, states, votes, undo, skips, languages. No browser."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from evals.campaign_tables import CampaignRow, InviteRow
from evals.campaigns.answers import store_answers
from evals.campaigns.campaign import Campaign, NewCampaign, PromptSource
from evals.campaigns.invites import NewInvite, create_invite, revoke_invite, sign_invite
from evals.campaigns.lifecycle import close_campaign, create_campaign, open_campaign
from evals.campaigns.raters import list_raters
from evals.votes.prompts import add_prompts, prompts
from models.chat.messages import Completion
from models.database import utcnow
from models.errors import Invalid
from models.home.page_secret import page_secret
from tests.ui.conftest import NAMES, Page
from ui.access.cookies import RATER_COOKIE
from ui.raters.answer_html import answer_html
from ui.raters.limits import RATERS_PER_ADDRESS, RateLimit
from ui.raters.texts import load_texts

ANSWERS = {NAMES[0]: "It **was sent**.", NAMES[1]: f"I am {NAMES[1]}. It comes on Friday."}


def campaign(page: Page, name: str, **values: Any) -> Campaign:
    """An open campaign over three questions with prepared answers."""
    add_prompts(page.database, [{"prompt": f"Where is it, {n}?", "category": "prepared"} for n in range(3)], "test")
    for prompt in prompts(page.database, category="prepared"):
        completions = {
            model: Completion(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)
            for model, text in ANSWERS.items()
        }
        store_answers(page.database, prompt, completions, 0)
    new = NewCampaign(name, NAMES[:2], PromptSource(stored="category:prepared"), votes_per_pair=None)
    create_campaign(page.database, replace(new, **values), Path())
    return open_campaign(page.database, name)


def link(page: Page, name: str, person: str, **values: Any) -> str:
    invite = create_invite(page.database, NewInvite(name, person, **values))
    return f"/vote/i/{sign_invite(page_secret(page.settings.home), invite.id)}"


def invited(page: Page, name: str, person: str = "Ann") -> TestClient:
    client = page.browser()
    assert client.get(link(page, name, person)).status_code == 303
    return client


def post(client: TestClient, name: str, action: str, **body: Any):
    return client.post(f"/vote/c/{name}/api/{action}", json=body)


def next_pair(client: TestClient, name: str) -> dict[str, Any]:
    answer = post(client, name, "next")
    assert answer.status_code == 200, answer.text
    return answer.json()["battle"]


def test_a_person_is_one_voter_on_every_device(open_page: Page):
    campaign(open_page, "devices")
    address = link(open_page, "devices", "Ann")
    clients = [open_page.browser(), open_page.browser()]
    for client in clients:
        answer = client.get(address)
        assert answer.headers["location"] == "/vote/c/devices/"
        assert "Path=/vote/c/devices" in answer.headers["set-cookie"]
        assert "HttpOnly" in answer.headers["set-cookie"]
    pair = next_pair(clients[0], "devices")
    assert post(clients[1], "devices", "vote", battle=pair["id"], choice="left").status_code == 200
    (rater,) = list_raters(open_page.database, "devices")
    assert (rater.rater.name, rater.rater.link, rater.votes) == ("Ann", "invite", 1)
    own = clients[0].get("/vote/c/devices/api/state").json()["link"]
    third = open_page.browser()
    assert third.get(own).headers["location"] == "/vote/c/devices/"
    assert third.get("/vote/c/devices/api/state").json()["progress"] == {"votes": 1, "wanted": 3, "skipped": 0}


def test_a_group_gives_names(open_page: Page):
    campaign(open_page, "group", language="de", title="Vergleich")
    address = link(open_page, "group", "Team", is_group=True)
    ann, bob = open_page.browser(), open_page.browser()
    form = ann.get(address)
    assert (form.status_code, 'lang="de"' in form.text, "Ihr Name" in form.text) == (200, True, True)
    assert ann.post(address, data={"name": " "}).status_code == 400
    assert ann.post(address, data={"name": "Ann"}).status_code == 303
    assert bob.post(address, data={"name": "ann"}).status_code == 409
    assert bob.post(address, data={"name": "Bob"}).status_code == 303
    assert ann.get(address).headers["location"] == "/vote/c/group/"  # known here: not asked for again
    assert {each.rater.name for each in list_raters(open_page.database, "group")} == {"Ann", "Bob"}


def test_links_that_no_longer_work_say_so(open_page: Page):
    campaign(open_page, "gone")
    expired = create_invite(open_page.database, NewInvite("gone", "Ann", expires=utcnow() + timedelta(days=1)))
    with open_page.database.write() as session:
        session.get_one(InviteRow, expired.id).expires = utcnow() - timedelta(days=1)
    secret = page_secret(open_page.settings.home)
    answer = open_page.browser().get(f"/vote/i/{sign_invite(secret, expired.id)}")
    assert (answer.status_code, "has expired" in answer.text) == (403, True)
    revoked = create_invite(open_page.database, NewInvite("gone", "Bob"))
    client = open_page.browser()
    client.get(f"/vote/i/{sign_invite(secret, revoked.id)}")
    pair = next_pair(client, "gone")
    assert pair
    revoke_invite(open_page.database, revoked.id)
    assert post(client, "gone", "next").json()["error"]["code"] == "invited_only"
    for forged in ("x", "", "a.b", sign_invite("another secret", revoked.id)):
        assert open_page.browser().get(f"/vote/i/{forged}").status_code == 404


def test_without_an_invite_nothing_is_shown(open_page: Page):
    campaign(open_page, "closed-doors")
    stranger = open_page.browser()
    assert stranger.get("/vote/c/closed-doors/").status_code == 200
    for answer in (stranger.get("/vote/c/closed-doors/api/state"), post(stranger, "closed-doors", "next")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "invited_only")
        assert "battle" not in answer.text
    insider = invited(open_page, "closed-doors")
    cookie = insider.cookies.get(RATER_COOKIE, path="/vote/c/closed-doors")
    campaign(open_page, "other-doors")
    carried = open_page.browser(cookie=f"{RATER_COOKIE}={cookie}")
    assert carried.get("/vote/c/other-doors/api/state").status_code == 403


def test_votes_undo_skips_and_replays(open_page: Page):
    campaign(open_page, "votes", criteria=("Correct",))
    client = invited(open_page, "votes")
    first = next_pair(client, "votes")
    assert "<strong>was sent</strong>" in first["left"] + first["right"]
    assert not any(name in json.dumps(first) for name in NAMES)
    other = invited(open_page, "votes", "Bob")
    assert post(other, "votes", "vote", battle=first["id"], choice="left").json()["error"]["code"] == "gone"
    vote = {"battle": first["id"], "choice": "left", "criteria": {"Correct": "tie"}, "comment": "ok"}
    stored = post(client, "votes", "vote", **vote)
    assert stored.json() == {"choice": "left", "left_model": None, "right_model": None, "votes": 1}
    replay = post(client, "votes", "vote", **vote)
    assert (replay.status_code, replay.json()["error"]["code"]) == (409, "voted")
    again = post(client, "votes", "undo").json()
    assert (again["battle"]["id"], again["votes"]) == (first["id"], 0)
    assert post(client, "votes", "skip", battle=first["id"], reason="unclear", comment="why?").status_code == 200
    assert post(client, "votes", "vote", battle=first["id"], choice="left").json()["error"]["code"] == "skipped"
    for _ in range(2):
        pair = next_pair(client, "votes")
        assert post(client, "votes", "vote", battle=pair["id"], choice="tie").status_code == 200
    end = post(client, "votes", "next")
    assert (end.status_code, end.json()["error"]["code"]) == (409, "nothing_left")


def test_a_vote_whose_names_were_shown_cannot_be_undone(open_page: Page):
    campaign(open_page, "shown", reveal="after_vote")
    client = invited(open_page, "shown")
    pair = next_pair(client, "shown")
    stored = post(client, "shown", "vote", battle=pair["id"], choice="right").json()
    assert {stored["left_model"], stored["right_model"]} == set(NAMES[:2])
    assert post(client, "shown", "undo").json()["error"]["code"] == "revealed"


@pytest.mark.long
def test_the_state_before_and_after(open_page: Page):
    new = NewCampaign("states", NAMES[:2], PromptSource(stored="all"), access="open")
    add_prompts(open_page.database, [{"prompt": "Where?"}], "test")
    create_campaign(open_page.database, new, Path())
    client = open_page.browser()
    client.get("/vote/c/states/")
    assert client.get("/vote/c/states/api/state").json()["campaign"]["state"] == "not_open"
    assert post(client, "states", "next").json()["error"]["code"] == "not_open"
    campaign(open_page, "ended")
    rater = invited(open_page, "ended")
    pair = next_pair(rater, "ended")
    waiting = next_pair(rater, "ended")
    post(rater, "ended", "vote", battle=pair["id"], choice="left")
    close_campaign(open_page.database, "ended")
    assert post(rater, "ended", "vote", battle=waiting["id"], choice="left").json()["error"]["code"] == "closed"
    with open_page.database.write() as session:
        assert session.get_one(CampaignRow, "ended").closed
    shown = _until_closed(rater, "ended")
    (revealed,) = shown["revealed"]
    assert {revealed["left_model"], revealed["right_model"]} == set(NAMES[:2])
    assert client.get("/vote/c/nowhere/api/state").status_code == 404


def _until_closed(client: TestClient, name: str) -> dict[str, Any]:
    """The state once the page has read the campaign again, at most a second later."""
    while True:
        state = client.get(f"/vote/c/{name}/api/state").json()
        if state["campaign"]["state"] == "closed":
            return state


@pytest.mark.long
def test_open_links_are_limited_by_address(open_page: Page):
    campaign(open_page, "limited", access="open")
    for _ in range(RATERS_PER_ADDRESS):
        client = open_page.browser()
        client.get("/vote/c/limited/")
        next_pair(client, "limited")
    last = open_page.browser()
    last.get("/vote/c/limited/")
    refused = post(last, "limited", "next")
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many")
    next_pair(client, "limited")  # raters who are here already continue
    raters = list_raters(open_page.database, "limited")
    assert {each.rater.link for each in raters} == {"open"}
    assert len(raters) == RATERS_PER_ADDRESS


def test_a_voter_who_sends_too_fast_waits():
    now = 0.0
    limit = RateLimit(3, clock=lambda: now)
    assert [limit.allows("ann") for _ in range(4)] == [True, True, True, False]
    assert limit.allows("bob")
    now = 20.0
    assert [limit.allows("ann") for _ in range(2)] == [True, False]


def test_the_languages_have_the_same_texts(tmp_path: Path):
    english, german = load_texts("en", tmp_path), load_texts("de-AT", tmp_path)
    assert english.keys() == german.keys()
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", german[key])), key
    assert load_texts("fr", tmp_path) == english


def test_a_home_adds_a_language(tmp_path: Path):
    (tmp_path / "texts").mkdir()
    own = tmp_path / "texts" / "fr.json"
    own.write_text('{"next": "Suivant"}')
    french = load_texts("fr", tmp_path)
    assert (french["next"], french["tie"]) == ("Suivant", "Tie")
    own.write_text("[")
    with pytest.raises(Invalid, match="not JSON"):
        load_texts("fr", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "<form action='https://evil.example'><input name=a></form>",
        "<img src='https://evil.example/x.png'>",
        "![x](https://evil.example/x.png)",
        "[click](https://evil.example)",
        "[click](javascript:alert(1))",
        "<https://evil.example>",
        "[a]: https://evil.example\n\n[a]",
        "<script>alert(1)</script>",
        "<style>@import 'https://evil.example'</style>",
        "[![x](https://evil.example/x.png)](https://evil.example)",
    ],
)
def test_nothing_in_an_answer_can_be_loaded_followed_or_sent(text: str):
    html = answer_html(text)
    assert not re.search(r"<(?!/?(p|em|strong|br|ul|ol|li)\b)", html), html
    assert not re.search(r"<[^>]*(href|src|action|on\w+)=", html), html


def test_headings_of_answers_look_alike():
    assert answer_html("# A") == answer_html("### A") == "<h3>A</h3>\n"


@pytest.mark.long
def test_a_group_of_a_hundred_joins_from_one_network(open_page: Page):
    campaign(open_page, "hundred")
    address = link(open_page, "hundred", "Team", is_group=True)
    for n in range(100):
        browser = open_page.browser()
        assert browser.get(address).status_code == 200
        assert browser.post(address, data={"name": f"Person {n}"}).status_code == 303
    assert len(list_raters(open_page.database, "hundred")) == 100


def test_a_broken_file_of_texts_is_an_error_in_english(open_page: Page, caplog: pytest.LogCaptureFixture):
    campaign(open_page, "broken-texts", language="nl")
    client = invited(open_page, "broken-texts")
    folder = open_page.settings.home / "texts"
    folder.mkdir(exist_ok=True)
    (folder / "nl.json").write_text("{")
    answer = client.get("/vote/c/broken-texts/api/state")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == load_texts("en", open_page.settings.home)["error_invalid"]
    assert "nl.json" in caplog.text


def test_a_withdrawn_invite_shows_no_more_pairs(open_page: Page):
    campaign(open_page, "withdrawn")
    invite = create_invite(open_page.database, NewInvite("withdrawn", "Ann"))
    client = open_page.browser()
    client.get(f"/vote/i/{sign_invite(page_secret(open_page.settings.home), invite.id)}")
    pair = next_pair(client, "withdrawn")
    revoke_invite(open_page.database, invite.id)
    vote = post(client, "withdrawn", "vote", battle=pair["id"], choice="left")
    for answer in (vote, client.get("/vote/c/withdrawn/api/state")):
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "invited_only"
