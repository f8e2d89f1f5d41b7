"""A campaign's request, its life from draft to closed, and its models and prompts, fixed once it opens."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evals.campaign_tables import CampaignRow
from evals.campaigns.campaign import OPEN, NewCampaign, PromptSource
from evals.campaigns.lifecycle import (
    PREPARE,
    add_model,
    close_campaign,
    create_campaign,
    list_campaigns,
    load_campaign,
    open_campaign,
    remove_model,
)
from evals.campaigns.preparation import queue_preparation
from evals.campaigns.report import campaign_plan
from evals.votes.prompts import add_prompts, prompts, read_jsonl
from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.jobs.jobs import list_jobs
from models.registry.registry import Registry
from tests.evals.campaigns.campaigns import MODELS, battle, draft, opened, register

STORED = PromptSource(stored="all")
NOON = datetime(2027, 1, 5, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": "Über"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a" * 65}, "name"),
        ({"models": ["one"]}, "models"),
        ({"models": ["one", "one"]}, "models"),
        ({"question": "  "}, "question"),
        ({"title": "t" * 256}, "title"),
        ({"welcome": "w" * 4001}, "welcome"),
        ({"criteria": ["a", "b", "c", "d", "e", "f"]}, "criteria"),
        ({"criteria": ["tone", "tone"]}, "criteria"),
        ({"criteria": [" "]}, "criteria"),
        ({"votes_per_pair": 0}, "votes_per_pair"),
        ({"votes_per_person": -1}, "votes_per_person"),
        ({"samples": 0}, "samples"),
        ({"margin": 0.0}, "margin"),
        ({"margin": 0.5}, "margin"),
        ({"repeat_share": 0.6}, "repeat_share"),
        ({"reveal": "sometimes"}, "reveal"),
        ({"access": "all"}, "access"),
        ({"on_leak": "shout"}, "on_leak"),
        ({"language": "klingon!"}, "language"),
        ({"opens": datetime(2027, 1, 1)}, "opens"),
        ({"opens": NOON, "closes": NOON}, "closes"),
        ({"closes": datetime(2020, 1, 1, tzinfo=UTC)}, "closes"),
        ({"opens": datetime(2019, 1, 1, tzinfo=UTC), "closes": datetime(2020, 1, 1, tzinfo=UTC)}, "closes"),
        ({"votes_per_pair": 10**30}, "votes_per_pair"),
        ({"samples": 10**9}, "samples"),
    ],
)
def test_a_wrong_request_is_one_line_about_one_field(fields: dict, param: str) -> None:
    with pytest.raises(Invalid) as error:
        NewCampaign(**{"name": "a", "models": ["one", "two"], "prompts": STORED} | fields)
    assert error.value.param == param
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", [{}, {"stored": "all", "task": "x"}, {"stored": "some"}, {"stored": "category:"}])
def test_prompts_have_one_source(source: dict) -> None:
    with pytest.raises(Invalid):
        PromptSource(**source)


def test_from_draft_to_closed(any_database: Database, tmp_path: Path) -> None:
    campaign = draft(any_database, tmp_path, title="Which is better?", criteria=["tone"], votes_per_person=4)
    assert (campaign.state, campaign.prompts, campaign.models) == ("draft", 6, MODELS)
    assert list_jobs(any_database, PREPARE) == []
    with pytest.raises(Conflict) as early:
        battle(any_database)
    assert early.value.code == "not_open"
    assert open_campaign(any_database, "acceptance").state == "open"
    (job,) = list_jobs(any_database, PREPARE)
    assert job.params == {"campaign": "acceptance"}
    open_campaign(any_database, "acceptance")
    assert len(list_jobs(any_database, PREPARE)) == 1, "opening twice prepares once"
    shown = battle(any_database)
    assert close_campaign(any_database, "acceptance").state == "closed"
    for late in (lambda: battle(any_database), lambda: open_campaign(any_database, "acceptance")):
        with pytest.raises(Conflict) as error:
            late()
        assert error.value.code == "closed"
    assert shown.id
    assert [each.name for each in list_campaigns(any_database)] == ["acceptance", "open"]
    assert load_campaign(any_database, "acceptance").to_json()["state"] == "closed"


def test_planned_times_need_no_process(database: Database, tmp_path: Path) -> None:
    opens = utcnow() + timedelta(hours=1)
    campaign = opened(database, tmp_path, opens=opens, closes=opens + timedelta(hours=2))
    assert campaign.state == "scheduled"
    assert campaign.state_at(opens) == "open"
    assert campaign.state_at(opens + timedelta(hours=2)) == "closed"
    with pytest.raises(Conflict) as error:
        battle(database)
    assert error.value.code == "not_open"


def test_models_and_prompts_must_exist(database: Database, tmp_path: Path) -> None:
    register(database, "one", "two", description="plain")
    Registry(database).alias("live", "one")
    new = {"name": "a", "prompts": STORED}
    with pytest.raises(NotFound, match="no such stored prompts"):
        create_campaign(database, NewCampaign(models=["one", "two"], **new), tmp_path)
    add_prompts(database, [{"prompt": "Why?", "category": "billing"}, {"prompt": "Who?"}], "test")
    with pytest.raises(NotFound, match="no model 'three'"):
        create_campaign(database, NewCampaign(models=["one", "three"], **new), tmp_path)
    with pytest.raises(NotFound, match="no finished recording"):
        create_campaign(database, NewCampaign(models=["one", "two@recorded"], **new), tmp_path)
    with pytest.raises(Invalid, match="same model"):
        create_campaign(database, NewCampaign(models=["one", "live"], **new), tmp_path)
    billing = NewCampaign(name="b", models=["live", "two"], prompts=PromptSource(stored="category:billing"))
    assert create_campaign(database, billing, tmp_path).prompts == 1
    assert load_campaign(database, "b").models == ("one", "two"), "an alias that moves later changes nothing"
    with pytest.raises(Conflict, match="already"):
        create_campaign(database, billing, tmp_path)
    with pytest.raises(NotFound, match="no campaign 'c'"):
        load_campaign(database, "c")


def test_the_prompts_of_a_campaign_do_not_join_the_stored_ones(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path)
    assert prompts(database) == []
    assert len(prompts(database, typed=True)) == 6


def test_served_models_join_no_campaign_automatically(database: Database, tmp_path: Path) -> None:
    register(database, "one", "two", "three")
    assert load_campaign(database, OPEN).models == ()
    with pytest.raises(Conflict) as error:
        battle(database, name=OPEN)
    assert error.value.code == "not_open"
    assert add_model(database, OPEN, "one").state == "draft"
    assert add_model(database, OPEN, "two").state == "open"
    assert add_model(database, OPEN, "two").models == ("one", "two")
    assert list_jobs(database, PREPARE) == []
    assert remove_model(database, OPEN, "one").models == ("two",)
    with pytest.raises(NotFound):
        remove_model(database, OPEN, "one")


def test_the_models_of_an_open_campaign_are_fixed(database: Database, tmp_path: Path) -> None:
    draft(database, tmp_path)
    register(database, "late")
    assert remove_model(database, "acceptance", "model-three").models == MODELS[:2]
    open_campaign(database, "acceptance")
    for change in (add_model, remove_model):
        with pytest.raises(Conflict, match="fixed"):
            change(database, "acceptance", "late" if change is add_model else "model-one")


def test_a_draft_whose_end_has_passed_does_not_open(database: Database, tmp_path: Path) -> None:
    draft(database, tmp_path)
    with database.write() as session:
        session.get_one(CampaignRow, "acceptance").closes = utcnow() - timedelta(hours=1)
    with pytest.raises(Conflict, match="planned end"):
        open_campaign(database, "acceptance")
    assert load_campaign(database, "acceptance").state == "draft"
    assert list_jobs(database, PREPARE) == []


def test_the_open_page_has_no_end(database: Database) -> None:
    register(database, *MODELS[:2])
    for model in MODELS[:2]:
        add_model(database, OPEN, model)
    with pytest.raises(Conflict, match="remove-model"):
        close_campaign(database, OPEN)
    assert load_campaign(database, OPEN).state == "open"


def test_answers_of_a_campaign_that_is_not_open_are_not_requested(database: Database, tmp_path: Path) -> None:
    draft(database, tmp_path)
    with pytest.raises(Conflict, match="draft"):
        queue_preparation(database, "acceptance")
    open_campaign(database, "acceptance")
    close_campaign(database, "acceptance")
    with pytest.raises(Conflict, match="closed"):
        queue_preparation(database, "acceptance")


@pytest.mark.parametrize("voters", [0, 10**9])
def test_a_plan_for_more_voters_than_can_be_simulated_is_refused(
    database: Database, tmp_path: Path, voters: int
) -> None:
    with pytest.raises(Invalid):
        campaign_plan(draft(database, tmp_path), voters)


@pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
def test_a_text_that_cannot_be_stored_is_one_line(any_database: Database, tmp_path: Path, text: str) -> None:
    if any_database.is_sqlite and "\x00" in text:
        pytest.skip("SQLite stores NUL")
    with pytest.raises(Invalid, match="cannot be stored"):
        draft(any_database, tmp_path, title=text)
    with pytest.raises(NotFound if any_database.is_sqlite and "\x00" in text else Invalid):
        draft(any_database, tmp_path, models=(MODELS[0], text))


def test_prompts_that_are_nested_too_deeply_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "deep.jsonl"
    file.write_text("[" * 100_000)
    with pytest.raises(Invalid, match="line 1"):
        list(read_jsonl(file))
