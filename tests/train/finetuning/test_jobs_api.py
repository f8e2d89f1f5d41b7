"""train/api.py, creating, lifecycle, reading: the fine-tuning API through the OpenAI SDK, all but the training."""

import json
import urllib.request
from datetime import timedelta
from typing import Any

import openai
import pytest
from sqlalchemy import select, update

from models.database import utcnow
from models.jobs import jobs
from models.registry.registry import Registry
from models.spec import ModelSpec, Upstream
from tests.train.finetuning.conftest import House
from train.finetuning.lifecycle import add_event, lock_job, start
from train.tables import FineTuningEventRow, FineTuningRow


def test_a_job_has_all_that_the_sdk_reads(house: House) -> None:
    file = house.upload()
    job = house.client.fine_tuning.jobs.create(
        model="gpt-4o-mini",
        training_file=file,
        suffix="My shop",
        seed=7,
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
    )
    assert job.id.startswith("ftjob-")
    assert (job.object, job.model, job.seed, job.status) == ("fine_tuning.job", "gpt-4o-mini", 7, "validating_files")
    assert (job.training_file, job.validation_file, job.organization_id) == (file, None, "parley")
    assert (job.fine_tuned_model, job.finished_at, job.error, job.result_files) == (None, None, None, [])
    assert job.metadata == {"team": "support"}
    assert job.hyperparameters.to_dict() == {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job.method
    assert job.method.supervised
    assert job.method.supervised.hyperparameters
    assert job.method.supervised.hyperparameters.n_epochs == 2
    assert job.created_at <= utcnow().timestamp()
    assert house.client.fine_tuning.jobs.retrieve(job.id) == job
    house.work("fine-tune-check")
    assert house.client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert [message for message in house.messages(job.id) if "only 12 examples" not in message] == [
        f"Created fine-tuning job: {job.id}",
        f"Validating training file: {file}",
        "Files validated, moving job to queued state",
    ]


def test_a_seed_is_made_where_none_is_given(house: House) -> None:
    file = house.upload()
    seeds = {house.client.fine_tuning.jobs.create(model="tiny", training_file=file).seed for _ in range(3)}
    assert len(seeds) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("fields", "param", "code", "message"),
    [
        ({"model": "gpt-5"}, "model", "model_not_available", "Model gpt-5 is not available for fine-tuning"),
        ({"model": "far"}, "model", "model_not_available", "weights are elsewhere"),
        ({"model": "gpt-4o"}, "model", "model_not_available", "maps 'gpt-4o' to 'gone'"),
        ({"training_file": "file-none"}, "training_file", None, "invalid training_file: file-none"),
        ({"training_file": "../../etc"}, "training_file", None, "invalid training_file"),
        ({"training_file": "upload_1"}, "training_file", None, "still being uploaded"),
        ({"validation_file": "file-none"}, "validation_file", None, "invalid validation_file: file-none"),
        ({"suffix": "…"}, "suffix", None, "no letter or digit"),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]},
            "integrations",
            None,
            "wandb is not installed",
        ),
        ({"extra_body": {"reward": 1}}, "reward", "unknown_parameter", "Unrecognized request argument"),
    ],
)
def test_an_invalid_request_is_a_400_that_names_the_field(
    house: House, fields: dict[str, Any], param: str, code: str | None, message: str
) -> None:
    far = Upstream(base_url="http://127.0.0.1:9/v1", model="far")
    Registry(house.database).register(ModelSpec(id="far", kind="hosted", upstream=far))
    request: dict[str, Any] = {"model": "tiny", "training_file": house.upload()} | fields
    with pytest.raises(openai.BadRequestError) as caught:
        house.client.fine_tuning.jobs.create(**request)
    assert (caught.value.param, caught.value.code, caught.value.type) == (param, code, "invalid_request_error")
    assert message in caught.value.message
    assert house.client.fine_tuning.jobs.list().data == []


def test_a_quantised_base_is_refused_and_a_family_name_is_found(house: House) -> None:
    file = house.upload()
    job = house.client.fine_tuning.jobs.create(model="gpt-4o-mini-2024-07-18", training_file=file)
    assert job.model == "gpt-4o-mini-2024-07-18"
    base = Registry(house.database).resolve("tiny")
    assert base.folder is not None
    (base.folder / "config.json").write_text('{"quantization_config": {"quant_method": "awq", "bits": 4}}')
    for model in ("tiny", "gpt-4o-mini"):
        with pytest.raises(openai.BadRequestError, match=r"The weights of 'tiny' are quantised \(awq\)") as caught:
            house.client.fine_tuning.jobs.create(model=model, training_file=file)
        assert (caught.value.param, caught.value.code) == ("model", "model_not_available")


def test_a_file_for_something_else_is_refused(house: House) -> None:
    with pytest.raises(openai.BadRequestError, match="uploaded for 'batch'") as caught:
        house.client.fine_tuning.jobs.create(model="tiny", training_file=house.upload(purpose="batch"))
    assert caught.value.param == "training_file"


def test_an_unknown_job_is_a_404_everywhere(house: House) -> None:
    api = house.client.fine_tuning.jobs
    for call in (api.retrieve, api.cancel, api.pause, api.resume, api.list_events, api.checkpoints.list):
        with pytest.raises(openai.NotFoundError, match="Could not find fine tune"):
            call("ftjob-none")
    with pytest.raises(openai.NotFoundError):
        api.list(after="ftjob-none")


@pytest.mark.long
def test_jobs_come_in_pages_newest_first_and_by_their_metadata(house: House) -> None:
    file, api = house.upload(), house.client.fine_tuning.jobs
    made = [
        api.create(model="tiny", training_file=file, metadata={"run": str(number % 2), "a.\"b']": "c"}).id
        for number in range(7)
    ]
    bare = api.create(model="tiny", training_file=file).id
    assert [job.id for job in api.list(limit=3)] == [bare, *reversed(made)]  # the SDK turns the pages by itself
    page = api.list(limit=3)
    assert page.has_more is True
    assert api.list(limit=8).has_more is False
    assert [job.id for job in api.list(limit=2, metadata={"run": "1"})] == [made[5], made[3], made[1]]
    assert [job.id for job in api.list(metadata={"run": "1", "a.\"b']": "c"})] == [made[5], made[3], made[1]]
    assert api.list(metadata={"run": "9"}).data == []
    with urllib.request.urlopen(f"{house.settings.gateway_url}/fine_tuning/jobs?metadata=null") as answer:
        assert [job["id"] for job in json.load(answer)["data"]] == [bare]
    with pytest.raises(openai.BadRequestError, match="limit"):
        api.list(limit=0)


def test_events_come_in_pages_newest_first(house: House) -> None:
    api = house.client.fine_tuning.jobs
    job = api.create(model="tiny", training_file=house.upload())
    with house.database.write() as session:
        for number in range(1, 31):
            add_event(session, job.id, f"Step {number}", data={"step": number}, step=number)
            session.flush()
    events = list(api.list_events(job.id, limit=7))
    assert [event.message for event in events[:30]] == [f"Step {number}" for number in range(30, 0, -1)]
    assert len({event.id for event in events}) == len(events) == 32
    assert (events[0].type, events[0].data, events[0].level) == ("metrics", {"step": 30}, "info")
    assert (events[-1].type, events[-1].object) == ("message", "fine_tuning.job.event")
    assert len(api.list_events(job.id).data) == 20
    with pytest.raises(openai.NotFoundError, match="does not belong to this job"):
        api.list_events(job.id, after="ftevent-none")
    assert api.checkpoints.list(job.id).data == []


def repeated(house: House, body: dict[str, Any], count: str = "1") -> str:
    request = urllib.request.Request(
        f"{house.settings.gateway_url}/fine_tuning/jobs",
        json.dumps(body).encode(),
        {"content-type": "application/json", "x-stainless-retry-count": count},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["id"]


@pytest.mark.long
def test_the_sdks_repeat_returns_the_first_requests_job(house: House) -> None:
    body = {"model": "tiny", "training_file": house.upload(), "suffix": "once"}
    first = repeated(house, body, "0")
    assert repeated(house, body) == first
    assert repeated(house, body, "2") == first
    assert repeated(house, body | {"suffix": "other"}) != first
    assert repeated(house, body, "0") != first  # a program that sends two requests on purpose gets two jobs
    house.client.fine_tuning.jobs.cancel(repeated(house, body))
    assert repeated(house, body) == first
    with house.database.write() as session:
        session.execute(update(FineTuningRow).values(created=utcnow() - timedelta(hours=1)))
    assert repeated(house, body) != first  # too long ago to be the same request
    assert len(house.client.fine_tuning.jobs.list().data) == 4


def test_cancelling_ends_a_job_and_its_work(house: House) -> None:
    api = house.client.fine_tuning.jobs
    job = api.create(model="tiny", training_file=house.upload())
    assert api.cancel(job.id).status == "cancelled"
    assert api.cancel(job.id, extra_headers={"x-stainless-retry-count": "1"}).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="already completed"):
        api.cancel(job.id)
    assert api.retrieve(job.id).finished_at
    house.work()
    assert api.retrieve(job.id).status == "cancelled"
    for call in (api.pause, api.resume):
        with pytest.raises(openai.BadRequestError, match="already completed"):
            call(job.id)


def test_a_paused_job_reads_queued_and_waits_until_it_is_resumed(house: House) -> None:
    api = house.client.fine_tuning.jobs
    job = api.create(model="tiny", training_file=house.upload())
    with pytest.raises(openai.BadRequestError, match="still validating"):
        api.pause(job.id)
    house.work("fine-tune-check")
    with pytest.raises(openai.BadRequestError, match="not paused"):
        api.resume(job.id)
    assert api.pause(job.id).status == "queued"
    assert api.pause(job.id, extra_headers={"x-stainless-retry-count": "1"}).status == "queued"
    with pytest.raises(openai.BadRequestError, match="paused already"):
        api.pause(job.id)
    assert jobs.claim(house.database, "worker") is None
    assert "paused" in house.messages(job.id)[-1]
    assert api.resume(job.id).status == "queued"
    assert api.resume(job.id, extra_headers={"x-stainless-retry-count": "2"}).status == "queued"
    assert "resumed" in house.messages(job.id)[-1]
    work = jobs.claim(house.database, "worker")
    assert work is not None
    assert work.params == {"fine_tuning_job": job.id}


@pytest.mark.long
def test_a_job_that_kills_its_workers_is_failed_and_says_so(house: House) -> None:
    api = house.client.fine_tuning.jobs
    job = api.create(model="tiny", training_file=house.upload())
    house.work("fine-tune-check")
    for _ in range(jobs.MAX_ATTEMPTS):
        assert jobs.claim(house.database, "worker", lease_s=-1) is not None
        with house.database.write() as session:
            start(session, lock_job(session, job.id))
    assert api.retrieve(job.id).status == "running"
    assert jobs.claim(house.database, "worker") is None
    (listed,) = api.list().data
    assert listed.status == "failed"
    assert listed.error
    assert listed.error.code == "server_error"
    assert "3 times in a row" in listed.error.message
    with house.database.read() as session:
        errors = session.scalars(select(FineTuningEventRow).where(FineTuningEventRow.level == "error")).all()
    assert len(errors) == 1
    assert api.retrieve(job.id) == listed
