"""The form that records a model: the cost, the required limit, and the job that the worker runs."""

import asyncio
from typing import Any

import pytest

from evals.recordings.recording_store import list_recordings
from evals.votes.prompts import add_prompts
from models.database import Database
from models.jobs.jobs import claim, get_job, list_jobs
from models.jobs.worker import run_job
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from parley import JOB_HANDLERS
from tests.evals.upstream import AnsweringServer
from tests.serve.gateways import serving
from tests.ui.conftest import filled, stand_in
from ui.backend.context import PageContext
from ui.owners.models.recording_form import RecordingHandlers, RecordingView


@pytest.fixture
def form(settings: Settings, database: Database) -> RecordingHandlers:
    add_prompts(database, [{"prompt": f"question {i}", "held_out": True} for i in range(2)], "test")
    return RecordingHandlers(PageContext(settings, database), stand_in(RecordingView))


def given(form: RecordingHandlers, which: str | None, max_cost: str = "") -> dict[Any, Any]:
    return filled(form._view, which=which, prompts="held-out", samples=3, max_cost=max_cost)


@pytest.mark.long
async def test_the_cost_comes_first_and_a_limit_is_required(form: RecordingHandlers, database: Database) -> None:
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    for name, known in (("priced", prices), ("unknown", {})):
        upstream = Upstream(base_url="http://127.0.0.1:9/v1", model=name, **known)
        Registry(database).register(ModelSpec(id=name, kind="hosted", upstream=upstream))
    line = form._view.line
    assert "priced: 6 requests" in (await form.show_cost(given(form, "priced")))[line]
    assert "at most $0.0308" in (await form.show_cost(given(form, "priced")))[line]
    assert "Set a limit in US dollars first" in (await form.record(given(form, "priced")))[line]
    assert "Set a limit in US dollars first" in (await form.record(given(form, "unknown")))[line]
    assert "needs the prices of unknown" in (await form.record(given(form, "unknown", "5")))[line]
    tuned = Upstream(base_url="http://127.0.0.1:9/v1", model="ft:gpt-4o-mini-2024-07-18:acme::A1")
    Registry(database).register(ModelSpec(id="tuned", kind="hosted", upstream=tuned))
    assert "at most $0.0037" in (await form.show_cost(given(form, "tuned")))[line], "the provider's price is known"
    assert "is not an amount" in (await form.record(given(form, "priced", "five")))[line]
    assert "Choose a model first" in (await form.show_cost(given(form, None)))[line]
    assert list_jobs(database) == []
    assert "Recording of priced has started" in (await form.record(given(form, "priced", "$5")))[line]
    (job,) = list_jobs(database)
    assert (job.kind, job.params["max_cost"]) == ("record", 5.0)


@pytest.mark.long
async def test_the_worker_records(form: RecordingHandlers, settings: Settings, database: Database) -> None:
    with AnsweringServer() as server, serving(settings, database) as gateway:
        upstream = Upstream(
            base_url=server.address, model="old", usd_per_million_input=1.0, usd_per_million_output=10.0
        )
        gateway.registry.register(ModelSpec(id="old", kind="hosted", upstream=upstream))
        gateway.seen(lambda snapshot: "old" in snapshot.routes)
        await form.record(given(form, "old", "5"))
        job = claim(database, "worker")
        assert job is not None
        here = settings.model_copy(update={"port": gateway.port})
        await asyncio.to_thread(run_job, here, database, JOB_HANDLERS, job, "worker")
        done = get_job(database, job.id)
        assert done.status == "succeeded", done.error
        assert len(server.asked) == 6
    (recording,) = list_recordings(database)
    assert done.result == {
        "recording": recording.id,
        "coverage": "2 of 2 prompts recorded, 3 samples",
        "failed": 0,
        "stopped": None,
    }
    assert "are already recorded" in (await form.record(given(form, "old", "5")))[form._view.line]
