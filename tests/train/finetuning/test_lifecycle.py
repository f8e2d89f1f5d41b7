"""train/finetuning over both databases: one job's whole life without a gateway, and whether a model is served."""

import json
import time
from pathlib import Path

import pytest

from models.database import Database
from models.files.stored_files import Files
from models.jobs import jobs
from models.jobs.worker import JobCancelled, JobContext, run_job
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec, Upstream
from parley import JOB_HANDLERS
from tests.train.conftest import style_rows
from tests.train.finetuning.conftest import House
from tests.train.finetuning.test_validation import jsonl
from train.finetuning import creation, lifecycle, views
from train.finetuning.checkpoint_models import add_checkpoint_row
from train.finetuning.events import EventWriter
from train.finetuning.requests import JobRequest, parse
from train.finetuning.training_job import store_results, wait_until_served

STEP = {"steps": 4, "loss": 1.5, "accuracy": 0.25, "margin": None, "seconds_left": 9.0, "epoch": 1.0}


@pytest.fixture
def job_request(any_database: Database, settings: Settings, tmp_path: Path) -> JobRequest:
    """A request for a job, with its file and its base in place."""
    (tmp_path / "shell").mkdir()
    (tmp_path / "shell" / "model.safetensors").touch()
    Registry(any_database).register(ModelSpec(id="tiny", kind="base", path=str(tmp_path / "shell")))
    file = Files(settings, any_database).store("a.jsonl", jsonl(style_rows(12)), "fine-tune").id
    return parse({"model": "tiny", "training_file": file, "metadata": {"a": "b"}, "validation_file": file})


def test_one_job_from_its_request_to_its_results(
    any_database: Database, settings: Settings, job_request: JobRequest
) -> None:
    database = any_database
    first = creation.create(settings, database, job_request)
    assert creation.create(settings, database, job_request, repeated=True) == first
    assert creation.create(settings, database, job_request, repeated=True, key="another") != first
    work = jobs.claim(database, "worker")
    assert work is not None
    run_job(settings, database, JOB_HANDLERS, work, "worker")
    assert views.job(database, first)["status"] == "queued"
    assert views.jobs(database, after=None, limit=1, metadata={"a": "b"}).has_more

    training = jobs.claim(database, "worker", kinds=["fine-tune"])
    assert training is not None
    context = JobContext(settings, database, training, "worker")
    folder = settings.runs_dir / first
    writer = EventWriter(context, first, folder, validated=True, method="supervised")
    for step in (1, 2):
        writer({"step": STEP | {"step": step}})
    writer({"validation": {"step": 2, "loss": 1.25, "accuracy": 0.5}})
    writer({"checkpoint": {"step": 2, "epoch": 1.0, "model": "ft:tiny:ckpt-step-2"}})
    writer({"validation": {"step": 2, "loss": 1.0, "accuracy": 0.5}})  # late: the row exists already
    again = EventWriter(context, first, folder, validated=True, method="supervised")
    # Step 3 was trained and saved, but the worker died before writing the event; the last line is cut off.
    folder.mkdir(parents=True, exist_ok=True)
    saved = [json.dumps(STEP | {"step": step, "loss": 0.75}) for step in (1, 2, 3)]
    (folder / "metrics.jsonl").write_text("\n".join([*saved, '{"step": 3, "validation_loss": 0.7}', '{"step": 4, "lo']))
    for step in (2, 3, 4):  # the run continues from a step that has its event
        again({"step": STEP | {"step": step, "loss": 0.5}})
    again.write()
    events = views.events(database, first, after=None, limit=100).data
    metrics = [event["data"] for event in reversed(events) if event["type"] == "metrics"]
    assert [data["step"] for data in metrics] == [1, 2, 3, 4]
    assert (metrics[1]["train_loss"], metrics[1]["valid_loss"]) == (1.5, 1.0)
    assert (metrics[2]["train_loss"], metrics[2]["valid_loss"]) == (0.75, 0.7)
    assert "Step 2/4: training loss=1.50, validation loss=1.00" in [event["message"] for event in events]
    (checkpoint,) = views.checkpoints(database, first, after=None, limit=9).data
    assert checkpoint["metrics"]["full_valid_loss"] == 1.0
    assert "total_steps" not in checkpoint["metrics"]
    results = Files(settings, database).get(store_results(settings, database, first)).path.read_text().splitlines()
    assert results[1:3] == ["1,1.5,0.25,,", "2,1.5,0.25,1.0,0.5"]

    assert views.job(database, first)["status"] == "running"
    lifecycle.pause(database, first)
    assert not context.beat()
    lifecycle.resume(database, first)
    lifecycle.cancel(database, first)
    assert views.job(database, first)["status"] == "cancelled"
    with pytest.raises(JobCancelled):
        writer({"stage": "a last word"})
    assert views.job(database, first)["status"] == "cancelled"


def test_the_last_three_checkpoints_are_kept(
    any_database: Database, settings: Settings, job_request: JobRequest
) -> None:
    job_id = creation.create(settings, any_database, job_request)
    gone = []
    for step in (2, 4, 6, 8, 6, 2, 10):
        with any_database.write() as session:
            gone.append(add_checkpoint_row(session, job_id, step, f"at-{step}", {"step": step}))
    assert gone == [[], [], [], ["at-2"], None, None, ["at-4"]]
    steps = [
        checkpoint["step_number"] for checkpoint in views.checkpoints(any_database, job_id, after=None, limit=2).data
    ]
    assert steps == [10, 8]


@pytest.mark.long
def test_the_gateway_decides_whether_a_model_is_served(house: House) -> None:
    upstream = Upstream(base_url="http://127.0.0.1:9/v1", model="far")
    Registry(house.database).register(ModelSpec(id="ft:far:a:b:c", kind="hosted", upstream=upstream))
    jobs.enqueue(house.database, "fine-tune", {})
    work = jobs.claim(house.database, "worker")
    assert work is not None
    context = JobContext(house.settings, house.database, work, "worker")
    assert wait_until_served(context, "ft:far:a:b:c") is None
    began = time.monotonic()
    assert "no engine serves it" in str(wait_until_served(context, "tiny"))
    assert time.monotonic() - began < 10
    assert wait_until_served(JobContext(house.alone, house.database, work, "worker"), "tiny") is None
