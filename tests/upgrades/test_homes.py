"""Homes that a released version left behind: nothing stored is lost, and what was interrupted goes on where it was.

Only commands, HTTP and the documented Python API are used here, and plain SQL: they outlive a refactoring. How the
homes were made is in make_home.py.

Each training costs ten seconds for imports alone, so that on PostgreSQL only the paused job trains to its end. Before a
release, name it in TRAINED_ON too.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import itsdangerous
import pytest
from openai import APIStatusError, OpenAI
from starlette.testclient import TestClient

from evals import cast_vote, votes_by
from models import load_settings, open_database
from tests.evals.upstream import AnsweringServer
from tests.fakes.openai_fine_tuning import FakeOpenAI
from tests.upgrades.conftest import ReleasedHome, until

TRAINED_ON = ("sqlite",)
# What is written for a reader, and may be worded differently.
WORDING = {"notes", "verdict", "text", "why", "words", "used_today"}
# Estimates that give each voter the same weight now, where the release gave it to each vote. Kappas name the voters.
ESTIMATES = {
    "leaderboard": {"without_ties", "votes_needed", "kappas", "categories"},
    "verdict": {"low", "high", "e_value", "votes_needed", "categories"},
}
# Entries of lists that came after the release.
LATER = {"rubrics": {"likelihood"}}

# Questions that test a judge which grades: four worthless or padded answers to two questions, asked in each run.
SCORER_TESTS = 8
MAPPED = "gpt-4o-mini"  # by the home's setting `fine_tuning_models`


def differences(before: Any, now: Any, ignored: Set[str] = WORDING, path: str = "") -> list[str]:
    """Where two JSON values differ; what is new beside the old, and the wording, may differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            line
            for name, value in before.items()
            if name not in ignored
            for line in (
                differences(value, now[name], ignored, f"{path}.{name}")
                if name in now
                else [f"{path}.{name} is missing"]
            )
        ]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [line for place, (old, new) in pairs for line in differences(old, new, ignored, f"{path}[{place}]")]
    if isinstance(before, float) and isinstance(now, float | int):
        equal = math.isclose(before, now, rel_tol=1e-9, abs_tol=1e-9)
    else:
        equal = before == now
    return [] if equal else [f"{path}: {before!r} is now {now!r}"]


@pytest.mark.long
def test_an_upgrade_leaves_every_row(released: ReleasedHome, command: Callable[..., str]) -> None:
    before = released.tables()
    command("db", "upgrade")
    now = released.tables()
    del before["alembic_version"]
    assert len(before) > 20
    assert sum(map(len, before.values())) > 300
    for table, rows in before.items():
        assert len(now[table]) == len(rows)
        for old, new in zip(rows, now[table], strict=True):
            assert json.loads(new).items() >= json.loads(old).items(), table


@pytest.mark.long
def test_commands_print_what_the_release_printed(released: ReleasedHome, command: Callable[..., str]) -> None:
    command("db", "upgrade")
    for output in released.outputs["commands"]:
        now = json.loads(command(*output["command"]))
        if later := LATER.get(output["command"][0]):
            assert later <= {entry["name"] for entry in now}
            now = [entry for entry in now if entry["name"] not in later]
        ignored = WORDING | ESTIMATES.get(output["command"][0], set())
        assert differences(output["said"], now, ignored) == [], output["command"]


@pytest.mark.long
def test_the_api_lists_what_the_release_listed_and_keys_still_open_it(
    released: ReleasedHome, command: Callable[..., str], upstream: AnsweringServer
) -> None:
    command("db", "upgrade")
    with released.gateway() as client:
        for address, before in released.outputs["api"].items():
            now: Any = client.get(address, cast_to=object)
            if address == "/models":  # new: the names of `fine_tuning_models` answer in chat too
                assert MAPPED in [model["id"] for model in now["data"]]
                now["data"] = [model for model in now["data"] if model["id"] != MAPPED]
            assert differences(before, now) == [], address
        with OpenAI(base_url=client.base_url, api_key=released.facts["client_key"], max_retries=0) as shop:
            said = shop.chat.completions.create(model="production", messages=[{"role": "user", "content": "say hello"}])
            assert said.choices[0].message.content == "after says: say hello"
            with pytest.raises(APIStatusError):
                shop.chat.completions.create(model="before", messages=[{"role": "user", "content": "say hello"}])


def test_the_votes_are_votes_of_the_open_campaign(released: ReleasedHome, command: Callable[..., str]) -> None:
    command("db", "upgrade")
    (campaign,) = released.rows("SELECT name, models, opened, closed FROM campaigns")
    name, models, opened, closed = campaign
    voted = released.rows(
        "SELECT model_1, model_2 FROM pairs JOIN battles ON battles.pair_id = pairs.id "
        "JOIN votes ON votes.battle_id = battles.id"
    )
    assert name == "open"
    assert (json.loads(models) if isinstance(models, str) else models) == sorted(
        {model for row in voted for model in row}
    )
    assert opened
    assert closed is None
    assert {row[0] for row in released.rows("SELECT campaign FROM battles")} == {"open"}
    # The release showed the names right after each vote.
    ((shown,),) = released.rows("SELECT COUNT(*) FROM battles WHERE revealed IS NOT NULL")
    ((cast,),) = released.rows("SELECT COUNT(*) FROM votes")
    assert shown == cast > 0


@pytest.mark.long
def test_an_open_battle_can_be_voted_on(released: ReleasedHome, command: Callable[..., str]) -> None:
    command("db", "upgrade")
    database = open_database(load_settings())
    voter, battle = released.facts["voter"], released.facts["open_battle"]
    assert votes_by(database, voter) == released.facts["votes_of_voter"]
    reveal = cast_vote(database, battle["id"], voter, "left")
    marks = {"**": "after", "No": "before", "Ma": "between"}
    assert (reveal.left_model, reveal.right_model) == (marks[battle["left"][:2]], marks[battle["right"][:2]])
    assert reveal.votes_by_voter == released.facts["votes_of_voter"] + 1
    database.dispose()


@pytest.mark.long
def test_a_cookie_is_still_the_same_voter_and_the_same_owner(
    released: ReleasedHome, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ui import build

    command("db", "upgrade")
    facts, forged = released.facts, released.facts["voter_cookie"][:-1] + "!"
    with TestClient(build(load_settings()), base_url="http://127.0.0.1", follow_redirects=False) as browser:
        assert "set-cookie" in browser.get("/vote/", headers={"cookie": f"parley_voter={forged}"}).headers
        browser.cookies.clear()
        known = {"cookie": f"parley_voter={facts['voter_cookie']}"}
        assert "set-cookie" not in browser.get("/vote/", headers=known).headers
        shown = browser.get("/vote/api/state", headers=known).json()
        assert shown["progress"]["votes"] == facts["votes_of_voter"]

        owner = {"cookie": f"parley_owner={facts['owner_cookie']}"}
        assert browser.get("/config").status_code == 401
        # It is good for a week after it was made.
        monkeypatch.setattr(itsdangerous.TimestampSigner, "get_timestamp", lambda self: facts["made"] + 60)
        assert browser.get("/config", headers=owner).status_code == 200


@pytest.mark.long
def test_what_was_answered_and_judged_is_not_asked_again(
    released: ReleasedHome, command: Callable[..., str], upstream: AnsweringServer
) -> None:
    command("db", "upgrade")
    facts = released.facts
    released.keep_only("evaluate", "judge")
    work = (facts["evaluation_job"], facts["judge_job"])
    unfinished = released.rows("SELECT id FROM evaluations WHERE finished IS NULL")
    with released.gateway():
        with released.process("worker"):
            until(lambda: not released.statuses(*work) & {"queued", "running"})
        assert released.statuses(*work) == {"succeeded"}, released.rows("SELECT kind, error FROM jobs")
        asked = Counter(upstream.asked)
        judged = sum(count for (model, _), count in asked.items() if model == "our-judge")
        missing = [(model, question) for model, questions in facts["missing_answers"].items() for question in questions]
        assert {one: count for one, count in asked.items() if one[0] != "our-judge"} == dict.fromkeys(missing, 1)
        assert judged == facts["asked_again_by_judge"] + 12 + SCORER_TESTS  # each answer of the evaluation once

        # A finished evaluation run again: its answers and their grades are there.
        upstream.asked.clear()
        scorers = ["--scorers", "exact,length:5-40,judge:our-judge@support", "--max-tokens", "64"]
        whole = str(released.folder / "data" / "whole.jsonl")
        command("eval", "run", whole, "--models", "before,production", *scorers, "--json")
        assert [model for model, _ in upstream.asked] == ["our-judge"] * SCORER_TESTS

        upstream.asked.clear()
        command("generate", str(released.folder / "data" / "questions.jsonl"), "--model", "before", "--resume")
        assert [question for _, question in upstream.asked] == facts["missing_in_bulk"]
    assert released.rows("SELECT id FROM evaluations WHERE finished IS NULL") == []
    shown = json.loads(command("eval", "show", unfinished[0][0], "--json"))
    exact = [(row["model"], row["mean"]) for row in shown["scores"] if row["scorer"] == "exact"]
    assert exact == [("before", 0.0), ("after", 1.0)]
    answers = (released.folder / "data" / "questions.answers.jsonl").read_text("utf-8").splitlines()
    assert len(answers) == 5


@pytest.mark.long
@pytest.mark.long
def test_an_order_at_a_cloud_continues_in_its_own_folder(
    released: ReleasedHome, command: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command("db", "upgrade")
    with FakeOpenAI(tick=0.005) as fake:
        monkeypatch.setenv("OPENAI_API_KEY", fake.key)
        monkeypatch.setenv("PARLEY_OPENAI_BASE_URL", fake.base_url)
        data = str(released.folder / "data" / "talks.jsonl")
        wanted = ["--on", "openai", "--base", "gpt-4o-mini-2024-07-18", "--name", "cloud-v1"]
        command("train", data, *wanted, "--yes", "--json")
    (record,) = (released.folder / "runs").glob("*/cloud.json")
    assert record.parent.name == released.facts["cloud_run"]
    assert json.loads(record.read_text("utf-8"))["state"] == "succeeded"
    assert released.rows("SELECT kind FROM models WHERE id = 'cloud-v1'") == [("hosted",)]


@pytest.mark.training
@pytest.mark.parametrize("released", TRAINED_ON, indirect=True)
def test_an_interrupted_run_continues_from_its_checkpoint(released: ReleasedHome, command: Callable[..., str]) -> None:
    command("db", "upgrade")
    facts = released.facts["command_run"]
    result, before = json.loads(command("train", "--resume", facts["run"], "--json")), facts["whole"]
    run = released.folder / "runs" / facts["run"]
    assert _went_on_from(run) == 6
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines if "learning_rate" in line] == list(range(1, 19))
    assert result["model"] == "command-run"
    assert {name: result[name] for name in ("steps", "tokens")} == {"steps": 18, "tokens": before["tokens"]}
    assert differences(before["hyperparameters"], result["hyperparameters"]) == []
    assert result["loss_before"] == pytest.approx(before["loss_before"], rel=1e-3)
    assert result["loss_after"] == pytest.approx(before["loss_after"], rel=2e-2)


@pytest.mark.training
def test_trainings_of_the_page_and_of_the_api_go_on(released: ReleasedHome, command: Callable[..., str]) -> None:
    command("db", "upgrade")
    page_job, ids = released.facts["page_job"], released.facts["fine_tuning"]
    every = released.database in TRAINED_ON
    released.keep_only("fine-tune", "fine-tune-check", *(["train"] if every else []))
    with released.gateway() as client:
        api = client.fine_tuning.jobs
        if not every:
            assert api.cancel(ids["queued"]).status == "cancelled"
        with released.process("worker", gateway=False):
            # The files of a job that was just created are still checked; it need not train as well.
            until(lambda: api.retrieve(ids["created"]).status == "queued")
            assert api.cancel(ids["created"]).status == "cancelled"
            assert api.resume(ids["paused"]).status in ("queued", "running")
            until(lambda: not released.statuses(page_job) & {"queued", "running"})
            for name in ("queued", "paused") if every else ("paused",):
                until(lambda name=name: api.retrieve(ids[name]).status not in ("queued", "running"))
                _require_trained(client, ids[name], name)
    assert _went_on_from(released.folder / "runs" / ids["paused"]) == 6
    if every:
        assert released.statuses(page_job) == {"succeeded"}
        assert _went_on_from(released.folder / "runs" / page_job) == 5
        assert released.rows("SELECT kind FROM models WHERE id = 'page-run'") == [("merged",)]


def _require_trained(client: OpenAI, job_id: str, suffix: str) -> None:
    """Each step was told once and none is missing, and the model has its name."""
    api = client.fine_tuning.jobs
    job = api.retrieve(job_id)
    assert job.status == "succeeded", job.error
    events = list(api.list_events(job_id, limit=100))
    metrics: list[Any] = [event.data for event in reversed(events) if event.type == "metrics"]
    assert [data["step"] for data in metrics] == list(range(1, 19))
    assert [checkpoint.step_number for checkpoint in api.checkpoints.list(job_id).data] == [18, 12, 6]
    assert str(job.fine_tuned_model).startswith(f"ft:gpt-4o-mini:parley:{suffix}:")
    assert client.models.retrieve(str(job.fine_tuned_model)).id == job.fine_tuned_model


def _went_on_from(run: Path) -> int:
    """The step that a run was taken up from, by its log."""
    (line,) = [line for line in (run / "train.log").read_text("utf-8").splitlines() if f"{run}/checkpoints/" in line]
    return int(re.findall(r"step-(\d+)", line)[-1])
