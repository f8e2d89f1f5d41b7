"""A model is recorded and switched off; votes, a judge, an evaluation and a verdict use its recording."""

import asyncio
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from evals.campaigns.ballots import cast_vote
from evals.campaigns.battles import BattleOptions
from evals.campaigns.bundle import check_bundle, write_bundle
from evals.campaigns.campaign import NewCampaign, PromptSource
from evals.campaigns.lifecycle import create_campaign
from evals.campaigns.preparation import preparation
from evals.judges.pairwise import judge_models
from evals.judges.request import JudgeRequest
from evals.ratings.verdict import verdict
from evals.recordings.recording_export import write_recording
from evals.recordings.recording_store import list_recordings
from evals.served_models import Completers, resolve_models, run_with_completers
from evals.served_runs import evaluate_served, judge_served
from evals.tables import PairRow
from evals.tasks.evaluations import TaskRun, load_evaluation
from evals.tasks.task_sources import open_task
from evals.votes.prompts import add_prompts
from models.chat.messages import Completer
from models.database import Database
from models.errors import Invalid, NotFound
from models.settings.settings import Settings
from tests.evals.battles import next_battle
from tests.evals.campaigns.campaigns import battle, opened, register
from tests.evals.recordings.recording import OLD, ScriptedServer, request, run, stored_prompts
from tests.evals.test_cli import parley
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import Serving, serving

QUESTIONS = [f"question {i}" for i in range(4)]
OLD_AT_ITS_END = "old@recorded"

__all__ = ["parley"]  # a fixture


@pytest.fixture
def gateway(settings: Settings, database: Database) -> Iterator[Serving]:
    """A gateway; the test starts and stops the upstreams."""
    with serving(settings, database) as running:
        yield running


@pytest.fixture
def recorded(
    gateway: Serving, database: Database, parley, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Settings, Serving]]:
    """Four prompts recorded from `old`, whose upstream is stopped; `new` and `our-judge` are served."""
    monkeypatch.setenv("PARLEY_PORT", str(gateway.port))
    add_prompts(database, [{"prompt": text, "held_out": True} for text in QUESTIONS], "test")
    with AnsweringServer() as upstream:
        gateway.hosted("old", base_url=upstream.address)
        code, output, error = parley("record", "old", "--samples", "2", "--yes", "--json")
        assert code == 0, error or output
        assert json.loads(output)["complete"] == 4
        assert len(upstream.asked) == 8
    with AnsweringServer() as alive:
        gateway.hosted("new", "our-judge", base_url=alive.address)
        yield gateway.settings.model_copy(update={"port": gateway.port}), gateway
        assert "old" not in {model for model, _ in alive.asked}


@pytest.mark.long
def test_a_recorded_model_is_voted_on_and_gets_a_verdict(
    recorded: tuple[Settings, Serving], database: Database, parley
) -> None:
    settings, _ = recorded
    names = [spec.id for spec in resolve_models(settings, database, OLD_AT_ITS_END, "new")]

    async def vote(completers: Completers) -> None:
        for seed in range(4):
            battle = await next_battle(database, "ann", completers, names, BattleOptions(seed=seed))
            assert {battle.left, battle.right} == {f"{m} says: {battle.messages[-1].content}" for m in ("old", "new")}
            cast_vote(database, battle.id, "ann", "left" if battle.left.startswith("new") else "right")

    run_with_completers(settings, database, vote)
    result = verdict(database, "new", OLD_AT_ITS_END)
    assert (result.wins, result.losses, result.prompts) == (4, 0, 4)
    for command in (("verdict", "new", OLD_AT_ITS_END), ("leaderboard",)):
        assert "old@recorded: recorded on 20" in parley(*command)[1]
        printed = json.loads(parley(*command, "--json")[1])
        assert [note for note in printed["notes"] if note.startswith("old@recorded: recorded on 20")]


@pytest.mark.long
def test_a_judge_and_an_evaluation_read_the_record(recorded: tuple[Settings, Serving], database: Database) -> None:
    settings, _ = recorded
    add_prompts(database, [{"prompt": "not recorded", "held_out": True}], "later")
    report = judge_served(settings, database, judge_models, JudgeRequest("our-judge", (OLD_AT_ITS_END, "new")))
    assert len(report.rows) == 4
    assert any(note.startswith("old@recorded: recorded on") for note in report.notes)
    task = open_task("prompts:held-out", database, settings.runs_dir)
    made = evaluate_served(
        settings, database, TaskRun(task, [OLD_AT_ITS_END], parameters={"max_tokens": 9}), ["length:1-9"]
    )
    evaluation = load_evaluation(database, made.id)
    by_question = dict(zip([s.question for s in task.samples], evaluation.results[OLD_AT_ITS_END], strict=True))
    assert by_question["question 1"].text == "old says: question 1"
    assert "no recorded answer to 'not recorded'" in (by_question["not recorded"].error or "")
    assert any("This run's own options do not apply" in note for note in evaluation.notes)
    with pytest.raises(Invalid, match="cannot judge"):
        judge_served(settings, database, judge_models, JudgeRequest(OLD_AT_ITS_END, ("old", "new")))
    with pytest.raises(NotFound, match="There is no finished recording for new@recorded"):
        resolve_models(settings, database, "new@recorded")


@pytest.mark.long
def test_the_gateway_does_not_serve_a_recording(recorded: tuple[Settings, Serving]) -> None:
    _, gateway = recorded
    listed = httpx.get(f"{gateway.base_url}/models").json()["data"]
    assert {model["id"] for model in listed} == {"old", "new", "our-judge"}
    for name in (OLD_AT_ITS_END, "old@recorded:01ABC"):
        body = {"model": name, "messages": [{"role": "user", "content": QUESTIONS[0]}]}
        answer = httpx.post(f"{gateway.base_url}/chat/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert httpx.get(f"{gateway.base_url}/models/{name}").status_code == 404


def test_votes_on_recorded_answers_to_training_prompts_do_not_count(database: Database, tmp_path, settings) -> None:
    first, second = stored_prompts(database, "one", "two")
    server = ScriptedServer()
    run(database, server, request((first, second)), tmp_path)
    run(database, server, request((second,), training=True), tmp_path)
    run(database, server, request((first, second), OLD.model_copy(update={"id": "next"})), tmp_path)
    names = ["next@recorded", OLD_AT_ITS_END]

    async def vote(completers: Completers) -> None:
        for seed in range(2):
            battle = await next_battle(database, "ann", completers, names, BattleOptions(seed=seed))
            cast_vote(database, battle.id, "ann", "left")

    asyncio.run(vote(Completers(settings, database)))
    with database.read() as session:
        assert set(session.scalars(select(PairRow.prompt_id))) == {first.id, second.id}
    assert verdict(database, *names).prompts == 1


@pytest.mark.long
def test_a_killed_recording_resumes_without_repeating_requests(
    gateway: Serving, database: Database, parley, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARLEY_PORT", str(gateway.port))
    add_prompts(database, [{"prompt": f"question {i}", "held_out": True} for i in range(30)], "test")
    command = ["record", "old", "--samples", "1", "--yes", "--concurrency", "2"]
    with AnsweringServer(latency_s=0.05) as upstream:
        gateway.hosted("old", base_url=upstream.address)
        killed = subprocess.Popen([sys.executable, "-m", "parley", *command], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(upstream.asked) < 10:
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.kill()
        killed.wait(10)
        (begun,) = list_recordings(database)
        assert begun.finished is None
        assert len(upstream.asked) - begun.answers <= 2, "only requests in flight are lost"
        before = len(upstream.asked)
        code, output, error = parley(*command, "--json")
        assert code == 0, error or output
        assert json.loads(output)["complete"] == 30
        assert len(upstream.asked) - before == 30 - begun.answers


def test_a_campaign_of_recorded_models_is_exported_with_their_records(database: Database, tmp_path: Path) -> None:
    names = ("model-one@recorded", "model-two@recorded")
    chosen = stored_prompts(database, *(f"Where is order {i}?" for i in range(3)))
    for name in names:
        model = OLD.model_copy(update={"id": name.removesuffix("@recorded")})
        run(database, ScriptedServer(), request(chosen, model), tmp_path)
    opened(database, tmp_path, 3, names)

    def nobody(model: str) -> Completer:
        raise AssertionError(f"{model} is asked, but it is recorded")

    for _ in range(3):
        shown = battle(database, "ann", nobody)
        cast_vote(database, shown.id, "ann", "left")
    write_bundle(database, "acceptance", tmp_path / "bundle.zip")
    checked = check_bundle(tmp_path / "bundle.zip")
    assert checked.votes == 3
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        files = [name for name in archive.namelist() if name.startswith("recordings/")]
        lines = [archive.read(name).decode().splitlines() for name in files]
    assert {json.loads(first)["recording"]["model"] for first, *_ in lines} == {"model-one", "model-two"}
    assert [len(answers) for _, *answers in lines] == [9, 9]


def test_a_record_that_lacks_prompts_is_named_when_the_campaign_opens(
    database: Database, tmp_path: Path, parley
) -> None:
    register(database, "old", "new")
    chosen = stored_prompts(database, *(f"question {i}?" for i in range(6)))
    run(database, ScriptedServer(), request(chosen[:4], samples=1), tmp_path)
    source = PromptSource(stored="held-out")
    create_campaign(database, NewCampaign("gap", ("old@recorded", "new"), source), tmp_path)
    warning = "old@recorded has 4 of 6 answers on record"
    assert warning in " ".join(parley("campaign", "open", "gap")[1].split())
    assert warning in " ".join(parley("campaign", "show", "gap")[1].split())
    assert [each.gap is None for each in preparation(database, "gap")] == [False, True]


def test_a_recording_that_cannot_be_written_is_one_line(database: Database, tmp_path: Path) -> None:
    done = run(database, ScriptedServer(), request(stored_prompts(database, "a?"), samples=1), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Invalid, match="cannot be written"):
        write_recording(database, done.recording, tmp_path / "file" / "old.jsonl")
