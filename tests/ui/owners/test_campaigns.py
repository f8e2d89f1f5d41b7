"""The Campaigns tab, managers and viewers: an owner needs no terminal, and nobody reaches another campaign."""

import asyncio
import csv
import io
import json
import re
import zipfile
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
import pytest
from pyarrow import parquet

from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import next_battle
from evals.campaigns.campaign import Campaign, NewCampaign, PromptSource
from evals.campaigns.gold_pairs import count_gold_pairs
from evals.campaigns.invites import NewInvite, create_invite, list_invites, revoke_invite, sign_invite
from evals.campaigns.lifecycle import create_campaign, list_campaigns, load_campaign, open_campaign
from evals.campaigns.raters import list_raters
from evals.votes.prompts import add_prompts
from models.home.page_secret import page_secret
from tests.evals.scripted import Scripted
from tests.ui.conftest import NAMES, Keyed, Page, filled, stand_in
from ui.backend.context import PageContext
from ui.owners.campaigns.tab import CampaignsTab, CampaignsView


def request(managed: str | None = None) -> gr.Request:
    """A request of an owner, or of the manager of one campaign."""
    scope = {"parley_managed": managed} if managed else {}
    return cast(gr.Request, SimpleNamespace(request=SimpleNamespace(scope=scope), headers={}))


@pytest.fixture(scope="module")
def view() -> CampaignsView:
    return stand_in(CampaignsView)


@pytest.fixture
def tab(open_page: Page, view: CampaignsView) -> CampaignsTab:
    add_prompts(
        open_page.database, [{"prompt": f"Where is order {n}?", "category": "orders"} for n in range(4)], "test"
    )
    return CampaignsTab(PageContext(open_page.settings, open_page.database), view)


@pytest.fixture
def campaign(keyed_page: Keyed) -> Campaign:
    """An open campaign of the page with keys, and another one beside it."""
    database = keyed_page.page.database
    add_prompts(database, [{"prompt": "Where is my order?"}], "test")
    for name in ("mine", "other"):
        if name not in {each.name for each in list_campaigns(database)}:
            create_campaign(database, NewCampaign(name, NAMES[:2], PromptSource(stored="all")), Path())
            open_campaign(database, name)
    return load_campaign(database, "mine")


def form(view: CampaignsView, **changes: Any) -> dict[Any, Any]:
    values = {
        "name": "acceptance", "models": list(NAMES[:2]), "source": "all", "typed": "", "question": "Which is better?",
        "title": "Acceptance", "welcome": "Hello.", "thanks": "", "language": "de", "criteria": "Correct, Friendly",
        "votes_per_pair": 1, "votes_per_person": 0, "margin": 10, "gold_share": 20, "access": "invited",
        "reveal": "at_end", "on_leak": "mask",
    }  # fmt: skip
    return filled(view, **(values | changes))


@pytest.mark.long
def test_a_campaign_from_its_form_to_its_report(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    shown = asyncio.run(tab.create(form(view), request()))
    stored = load_campaign(open_page.database, "acceptance")
    assert (stored.language, stored.criteria, stored.margin) == ("de", ("Correct", "Friendly"), 0.1)
    assert (stored.votes_per_pair, stored.votes_per_person) == (1, None)
    assert "Acceptance" in shown[view.list]
    assert shown[view.open]["visible"]
    assert not shown[view.close]["visible"]
    assert "is now a draft" in shown[view.create_line]

    again = asyncio.run(tab.create(form(view), request()))
    assert "already" in again[view.create_line]

    power = asyncio.run(tab.plan("acceptance", 2, request()))
    assert "are too few: a verdict needs 30 votes" in power[view.power]

    opened = asyncio.run(tab.open("acceptance", True, request()))
    assert opened[view.close]["visible"]
    invited = asyncio.run(tab.invite("acceptance", "Ann <b>", "rater", 14, request()))
    assert "Ann &lt;b&gt;" in invited[view.invite]
    link = re.search(r"/vote/i/[\w.-]+", invited[view.invite])
    assert link
    assert open_page.browser().get(link[0]).headers["location"] == "/vote/c/acceptance/"
    (choice,) = invited[view.revoked]["choices"]
    revoked = asyncio.run(tab.revoke("acceptance", choice[1], request()))
    assert "no longer works" in revoked[view.invite]
    assert open_page.browser().get(link[0]).status_code == 403

    closed = asyncio.run(tab.close("acceptance", True, request()))
    assert not closed[view.close]["visible"]
    assert NAMES[0] in closed[view.report]


@pytest.mark.long
def test_typed_questions_and_wrong_forms(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    typed = form(view, name="typed", source=None, typed="One?\n\nTwo?\n")
    asyncio.run(tab.create(typed, request()))
    assert load_campaign(open_page.database, "typed").prompts == 2
    for wrong in ({"name": "A B"}, {"models": [NAMES[0]]}, {"source": None}, {"question": " "}, {"criteria": "a, a"}):
        shown = asyncio.run(tab.create(form(view, **({"name": "wrong"} | wrong)), request()))
        assert "notice bad" in shown[view.create_line], wrong


def test_a_manager_reaches_no_other_campaign(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    asyncio.run(tab.create(form(view, name="managed"), request()))
    asyncio.run(tab.create(form(view, name="foreign"), request()))
    mine = request("managed")
    listed = asyncio.run(tab.refresh("foreign", True, mine))
    assert "foreign" not in listed[view.list]
    for shown in (
        asyncio.run(tab.show("foreign", True, mine)),
        asyncio.run(tab.open("foreign", True, mine)),
        asyncio.run(tab.join("managed", NAMES[2], True, mine)),
    ):
        assert "notice bad" in shown[view.line]
    assert load_campaign(open_page.database, "foreign").state == "draft"
    assert "notice bad" in asyncio.run(tab.invite("foreign", "Ann", "rater", 0, mine))[view.invite]
    assert "notice bad" in asyncio.run(tab.invite("managed", "Ann", "manager", 0, mine))[view.invite]
    assert "notice bad" in asyncio.run(tab.create(form(view, name="new"), mine))[view.create_line]
    assert asyncio.run(tab.open("managed", True, mine))[view.close]["visible"]


def test_gold_pairs_are_added_to_a_draft(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    made = asyncio.run(tab.create(form(view, name="with-gold"), request()))
    assert made[view.gold]["visible"]
    prompt = made[view.gold_prompt]["choices"][0][1]
    wrong = asyncio.run(tab.add_gold("with-gold", "foreign", "good", "bad", request()))
    assert "notice bad" in wrong[view.gold_line]
    for count in ("1 gold pair", "2 gold pairs"):
        added = asyncio.run(tab.add_gold("with-gold", prompt, f"good {count}", "bad", request()))
        assert f"Added: {count}." in added[view.gold_line]
    assert count_gold_pairs(open_page.database, "with-gold") == 2
    assert load_campaign(open_page.database, "with-gold").gold_share == 0.2
    opened = asyncio.run(tab.open("with-gold", True, request()))
    assert not opened[view.gold]["visible"]
    late = asyncio.run(tab.add_gold("with-gold", prompt, "good", "bad", request()))
    assert "has opened" in late[view.gold_line]


def test_a_person_is_forgotten(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    asyncio.run(tab.create(form(view, name="forgets"), request()))
    asyncio.run(tab.open("forgets", True, request()))
    for person in ("Ann", "Ben"):
        invited = asyncio.run(tab.invite("forgets", person, "rater", 0, request()))
        if person == "Ann":
            link = re.search(r"/vote/i/[\w.-]+", invited[view.invite])
            assert link
            open_page.browser().get(link[0])
    (ann, voter), ben = invited[view.forgotten]["choices"]
    assert (ann, ben) == ("Ann", ("Ben", "Ben"))
    foreign = asyncio.run(tab.forget("forgets", "Cem", True, request()))
    assert "Choose a person" in foreign[view.forget_line]
    for person, left in ((voter, ["Ben"]), ("Ben", [])):
        gone = asyncio.run(tab.forget("forgets", person, True, request()))
        assert "was removed" in gone[view.forget_line]
        assert [name for name, _ in gone[view.forgotten]["choices"]] == left
    assert [each.rater.name for each in list_raters(open_page.database, "forgets")] == [None]
    assert list_invites(open_page.database, "forgets") == []


def test_votes_are_exported_in_the_page(open_page: Page, tab: CampaignsTab, view: CampaignsView):
    asyncio.run(tab.create(form(view, name="exported", source="category:orders", access="open"), request()))
    shown = asyncio.run(tab.open("exported", True, request()))
    addresses = dict(re.findall(r"href='([^']+)' download data-export='(\w+)'", shown[view.export]))
    assert set(addresses.values()) == {"csv", "parquet", "datasets", "trl", "openai"}
    database, models = open_page.database, Scripted({name: lambda q, n=name: f"{len(n)}: {q}" for name in NAMES[:2]})
    for voter in ("ann", "ben"):
        battle = asyncio.run(next_battle(database, voter, models, "exported"))
        cast_vote(database, battle.id, voter, "left")
    client = open_page.browser()
    files = {form: client.get(unescape(address)) for address, form in addresses.items()}
    assert {answer.status_code for answer in files.values()} == {200}
    assert "exported-votes.csv" in files["csv"].headers["content-disposition"]
    assert len(list(csv.DictReader(io.StringIO(files["csv"].text)))) == 2
    assert parquet.read_table(io.BytesIO(files["parquet"].content)).num_rows == 2
    with zipfile.ZipFile(io.BytesIO(files["datasets"].content)) as folder:
        assert {"exported-votes/train.parquet", "exported-votes/README.md"} <= set(folder.namelist())
    preferences = [json.loads(line) for line in files["trl"].text.splitlines()]
    assert preferences
    assert {"prompt", "chosen", "rejected"} <= set(preferences[0])
    dpo = [json.loads(line) for line in files["openai"].text.splitlines()]
    assert [set(row) for row in dpo] == [{"input", "preferred_output", "non_preferred_output"}] * len(preferences)
    assert client.get("/campaigns/export?as=csv").text.count("exported") == 2  # all campaigns
    assert client.get("/campaigns/export?campaign=exported&as=exe").status_code == 400
    assert client.get("/campaigns/export?campaign=nothing&as=csv").status_code == 404


def follow(keyed: Keyed, role: Any) -> tuple[Any, str, Any]:
    """A browser after the link of an invite with this role, where it was sent, and the invite."""
    database, settings = keyed.page.database, keyed.page.settings
    invite = create_invite(database, NewInvite("mine", f"A {role}", role))
    client = keyed.page.browser()
    answer = client.get(f"/vote/i/{sign_invite(page_secret(settings.home), invite.id)}")
    return client, answer.headers["location"], invite


@pytest.mark.long
def test_a_manager_signs_in_by_a_link(keyed_page: Keyed, campaign: Campaign):
    client, address, invite = follow(keyed_page, "manager")
    assert address == "/campaigns/c/mine/"
    assert client.get(address).status_code == 200
    assert client.get("/campaigns/c/mine/report").status_code == 200
    with zipfile.ZipFile(io.BytesIO(client.get("/campaigns/c/mine/export?campaign=other").content)) as bundle:
        assert json.loads(bundle.read("campaign.json"))["name"] == "mine"
    assert client.get("/campaigns/c/mine/export?as=csv&campaign=other").headers["content-disposition"] == (
        'attachment; filename="mine-votes.csv"'
    )
    for closed in ("/campaigns/c/other/", "/campaigns/c/other/report", "/campaigns/c/other/export?as=csv"):
        assert client.get(closed).status_code == 403
    for owners in ("/config", "/campaigns/export?campaign=mine"):
        assert client.get(owners).status_code == 401
    revoke_invite(keyed_page.page.database, invite.id)


@pytest.mark.long
def test_a_viewer_reads_the_report_and_nothing_else(keyed_page: Keyed, campaign: Campaign):
    client, address, _ = follow(keyed_page, "viewer")
    assert address == "/campaigns/c/mine/report"
    page = client.get(address)
    assert page.status_code == 200
    assert campaign.question in page.text
    for closed in ("/campaigns/c/mine/", "/campaigns/c/mine/config", "/campaigns/c/mine/export"):
        assert client.get(closed).status_code == 404
    assert client.get("/campaigns/c/other/report").status_code == 403
    assert client.post("/campaigns/c/mine/gradio_api/queue/join", json={"fn_index": 0, "data": []}).status_code == 404


def test_a_revoked_or_foreign_link_opens_nothing(keyed_page: Keyed, campaign: Campaign):
    invite = create_invite(keyed_page.page.database, NewInvite("mine", "Gone", "viewer"))
    revoke_invite(keyed_page.page.database, invite.id)
    token = sign_invite(page_secret(keyed_page.page.settings.home), invite.id)
    answer = keyed_page.page.browser().get(f"/vote/i/{token}")
    assert answer.status_code == 403
    assert "withdrawn" in answer.text
    assert keyed_page.page.browser().get(f"/vote/i/{token[:-2]}xx").status_code == 404
    assert keyed_page.page.browser().get("/campaigns/c/mine/report").status_code == 403
