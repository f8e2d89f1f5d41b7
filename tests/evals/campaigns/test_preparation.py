"""Answers requested in advance: each once, bounded, resumable; recorded models get no requests."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from evals.campaigns.lifecycle import PREPARE, load_campaign
from evals.campaigns.preparation import preparation, prepare_campaign, queue_preparation
from models.database import Database
from models.errors import Unavailable
from models.jobs.jobs import claim, get_job, list_jobs
from models.jobs.worker import run_job
from models.settings.settings import Settings
from parley import JOB_HANDLERS, JOB_LANES
from tests.evals.campaigns.campaigns import MODELS, battle, opened
from tests.evals.scripted import Scripted, echo
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import serving


def prepare(database: Database, models: Scripted, report=None):
    return asyncio.run(prepare_campaign(database, models, "acceptance", report))


def test_each_model_gets_each_prompt_once(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 8, samples=2)
    assert [each.answers for each in preparation(database, "acceptance")] == [0, 0, 0]
    models, progress = echo(*MODELS, delay_s=0.01), []
    prepared = prepare(database, models, lambda done, total, failed: progress.append((done, total, failed)))
    assert Counter(models.calls) == dict.fromkeys(MODELS, 16)
    assert models.most_at_once <= 3 * 16
    assert [(each.answers, each.wanted) for each in prepared] == [(16, 16)] * 3
    assert progress[-1] == (48, 48, 0)
    assert [done for done, _, _ in progress] == sorted(done for done, _, _ in progress)
    prepare(database, models)
    assert len(models.calls) == 48, "a second run asks nothing"
    battle(database, "ann", models, ready=[])
    assert len(models.calls) == 48


def test_a_failed_model_is_requested_again_later(database: Database, tmp_path: Path) -> None:
    opened(database, tmp_path, 4)

    def dead(_: str) -> str:
        raise Unavailable("It broke off.")

    models = echo(*MODELS)
    failures = []
    broken = Scripted(models.answers | {"model-one": dead})
    prepared = prepare(database, broken, lambda done, total, failed: failures.append(failed))
    assert {each.model: each.answers for each in prepared} == {"model-one": 0, "model-two": 4, "model-three": 4}
    assert failures[-1] == 4
    queue_preparation(database, "acceptance")
    assert len(list_jobs(database, PREPARE)) == 2
    assert all(each.answers == 4 for each in prepare(database, models))
    assert Counter(models.calls) == {"model-one": 4}
    assert load_campaign(database, "acceptance").state == "open"


def test_an_open_ended_campaign_is_not_prepared(database: Database) -> None:
    assert preparation(database, "open") == ()


@pytest.mark.long
def test_the_worker_prepares_what_was_opened(settings: Settings, database: Database, tmp_path: Path) -> None:
    with serving(settings, database) as gateway, AnsweringServer() as upstream:
        gateway.hosted("alpha", "beta", base_url=upstream.address)
        opened(database, tmp_path, 3, ("alpha", "beta"))
        at_gateway = gateway.settings.model_copy(update={"port": gateway.port})
        job = claim(database, "test", kinds=JOB_LANES[1])
        assert job is not None
        run_job(at_gateway, database, JOB_HANDLERS, job, "test")
        done = get_job(database, job.id)
        assert (done.status, done.error) == ("succeeded", None)
        assert done.result == {"models": {name: {"answers": 3, "wanted": 3} for name in ("alpha", "beta")}}
        assert len(upstream.asked) == 6
