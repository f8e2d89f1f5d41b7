"""train/finetuning/training_job.py and events.py: jobs that train, are killed, paused, cancelled, and end well."""

import csv
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai.types.fine_tuning import FineTuningJob

from models.chat_templates import read_template
from models.files.stored_files import Files
from models.registry.registry import Registry
from models.settings.environment import child_environment
from tests.stack import ROOT
from tests.train.conftest import style_rows
from tests.train.finetuning.conftest import House, end_leases
from tests.train.finetuning.test_validation import pairs

pytestmark = pytest.mark.training


def create(house: House, rows: Any = 24, **fields: Any) -> FineTuningJob:
    numbers = fields.pop("numbers", {"n_epochs": 2, "batch_size": 4})
    method = fields.pop("method", "supervised")
    request: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "training_file": house.upload(rows),
        "method": {"type": method, method: {"hyperparameters": numbers}},
    }
    return house.client.fine_tuning.jobs.create(**request | fields)


def test_a_job_folds_system_messages_and_trains_with_the_template_of_its_extensions(training_house: House) -> None:
    house = training_house
    rows = [
        {"messages": [*row["messages"], {"role": "system", "content": "Be brief."}, *row["messages"][-2:]]}
        for row in style_rows(12)
    ]
    job = create(house, rows)
    house.work()
    assert "system message after another message" in str(house.client.fine_tuning.jobs.retrieve(job.id).error)
    extensions = {"fold_system": True, "chat_template": "gemma"}
    job = create(house, rows, numbers={"n_epochs": 1, "batch_size": 4}, extra_body={"parley": extensions})
    house.work()
    done = house.client.fine_tuning.jobs.retrieve(job.id)
    assert done.status == "succeeded", done.error
    shown = done.to_dict()["parley"]
    assert shown == extensions | {"chat_template": read_template("gemma")}
    spec = Registry(house.database).resolve(str(done.fine_tuned_model))
    # Its template is not that of the base, whose engine has only one.
    assert (spec.kind, spec.fold_system) == ("merged", "later")
    assert (Path(str(spec.path)) / "chat_template.jinja").read_text() == read_template("gemma")
    assert not [
        model_spec for model_spec in Registry(house.database).list(include_candidates=True) if ":ckpt-" in model_spec.id
    ]
    assert any("folded into" in line for line in house.messages(job.id))


def metrics(house: House, job: FineTuningJob) -> list[dict[str, Any]]:
    events = list(house.client.fine_tuning.jobs.list_events(job.id, limit=100))
    return [dict(event.data) for event in reversed(events) if event.type == "metrics"]  # type: ignore[call-overload]  # typed object


def test_a_job_trains_reports_and_ends_as_a_model_with_its_name(training_house: House) -> None:
    house = training_house
    numbers = {"n_epochs": 4, "batch_size": 4, "learning_rate_multiplier": 1.2}
    job = create(house, numbers=numbers, suffix="shop", validation_file=house.upload(12))
    house.work()
    job = house.client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model
    assert job.fine_tuned_model.startswith("ft:gpt-4o-mini:parley:shop:")
    assert job.hyperparameters.to_dict() == numbers
    assert job.trained_tokens
    assert job.trained_tokens > 1000
    assert job.finished_at
    assert job.estimated_finish is None

    spec = Registry(house.database).resolve(job.fine_tuned_model)
    assert (spec.kind, spec.base, spec.job) == ("adapter", "tiny", job.id)
    messages = house.messages(job.id)
    assert messages[-2:] == [
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    assert "Fine-tuning job started" in messages

    steps = metrics(house, job)
    assert [data["step"] for data in steps] == list(range(1, 25))
    assert all(data["total_steps"] == 24 and 0 <= data["train_mean_token_accuracy"] <= 1 for data in steps)
    assert steps[-1]["train_loss"] < steps[0]["train_loss"]
    assert {data["step"] for data in steps if "valid_loss" in data} == {6, 12, 18, 24}

    checkpoints = house.client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [checkpoint.step_number for checkpoint in checkpoints] == [24, 18, 12]
    for checkpoint in checkpoints:
        assert checkpoint.fine_tuned_model_checkpoint == f"{job.fine_tuned_model}:ckpt-step-{checkpoint.step_number}"
        assert Registry(house.database).resolve(checkpoint.fine_tuned_model_checkpoint).state == "candidate"
        assert checkpoint.metrics.step == checkpoint.step_number
        assert checkpoint.metrics.train_loss
        assert checkpoint.metrics.full_valid_loss
        assert checkpoint.metrics.valid_mean_token_accuracy is not None
    folders = [folder for folder in house.settings.models_dir.iterdir() if folder.is_dir()]
    assert len(folders) == 4  # the model and three: the first epoch's is gone
    listed = {model.id for model in house.client.models.list()}
    assert job.fine_tuned_model in listed
    assert not any("ckpt" in name for name in listed)

    (file,) = job.result_files
    assert Files(house.settings, house.database).get(file).purpose == "fine-tune-results"
    rows = list(csv.DictReader(io.StringIO(house.client.files.content(file).text)))
    assert list(rows[0]) == ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert [int(row["step"]) for row in rows] == list(range(1, 25))
    assert rows[-1]["valid_loss"]
    assert not rows[0]["valid_loss"]

    again = create(house, model=job.fine_tuned_model, numbers={"n_epochs": 1, "batch_size": 12}, suffix="again")
    house.work()
    again = house.client.fine_tuning.jobs.retrieve(again.id)
    assert again.status == "succeeded", again.error
    assert again.fine_tuned_model
    assert again.fine_tuned_model.startswith("ft:gpt-4o-mini:parley:again:")
    spec = Registry(house.database).resolve(again.fine_tuned_model)
    assert (spec.kind, spec.parent) == ("merged", job.fine_tuned_model)


def test_preference_pairs_train_by_dpo(training_house: House) -> None:
    house = training_house
    job = create(house, pairs(16), method="dpo", numbers={"n_epochs": 1, "batch_size": 4, "beta": 0.3}, model="tiny")
    house.work()
    job = house.client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.method
    assert job.method.dpo
    assert job.method.dpo.hyperparameters
    assert job.method.dpo.hyperparameters.beta == 0.3
    steps = metrics(house, job)
    assert len(steps) == 4
    assert all("train_reward_accuracy" in data for data in steps)
    assert job.fine_tuned_model
    assert job.fine_tuned_model.startswith("ft:tiny:parley::")


def test_a_training_that_fails_fails_its_job_in_one_line(training_house: House) -> None:
    house = training_house
    base = Registry(house.database).resolve("tiny")
    (Path(str(base.path)) / "config.json").rename(Path(str(base.path)) / "hidden.json")
    try:
        job = create(house)
        house.work()
    finally:
        (Path(str(base.path)) / "hidden.json").rename(Path(str(base.path)) / "config.json")
    job = house.client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "failed"
    assert job.error
    assert job.error.code == "training_failed"
    assert "\n" not in job.error.message
    assert house.messages(job.id)[-1] == job.error.message


@pytest.fixture
def worker(training_house: House) -> Any:
    """Starts real workers, as processes; ends those that are left."""
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, "-m", "parley", "worker"], cwd=ROOT, env=child_environment(training_house.alone)
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.terminate()
    for process in running:
        process.wait(20)


LONG = {"n_epochs": 12, "batch_size": 4}  # a few seconds
CONTINUES = "Fine-tuning job continues from its last checkpoint"


def at_step(house: House, job: FineTuningJob, least: int) -> bool:
    return len(metrics(house, job)) >= least


def trainers(house: House) -> list[psutil.Process]:
    """The trainings of this home; others may be training on this machine."""
    mine = str(house.settings.home)
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "train.finetuning.child" in (process.info["cmdline"] or []) and _home(process) == mine
    ]


def _home(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("PARLEY_HOME")
    except psutil.Error:
        return None  # it has ended meanwhile


def test_stopped_killed_and_paused_it_loses_nothing_and_a_cancelled_job_ends_soon(
    training_house: House, worker: Any
) -> None:
    house, api = training_house, training_house.client.fine_tuning.jobs
    job = create(house, numbers=LONG)
    first = worker()
    house.until(lambda: api.checkpoints.list(job.id).data)
    first.terminate()  # as `parley up` does when it ends
    first.wait(20)
    assert not trainers(house)
    assert api.retrieve(job.id).status == "running"

    before = len(metrics(house, job))
    second = worker()  # continues at once: the first worker has released the job
    house.until(lambda: CONTINUES in house.messages(job.id) and at_step(house, job, before + 1))
    second.kill()
    second.wait(10)
    house.until(lambda: not trainers(house), 20)

    end_leases(house.database)
    before = len(metrics(house, job))
    worker()
    house.until(lambda: house.messages(job.id).count(CONTINUES) == 2 and at_step(house, job, before + 1))
    assert api.pause(job.id).status == "queued"
    house.until(lambda: not trainers(house), 15)
    assert api.retrieve(job.id).status == "queued"
    api.resume(job.id)
    house.until(lambda: api.retrieve(job.id).status not in ("queued", "running"))
    job = api.retrieve(job.id)
    assert job.status == "succeeded", job.error
    messages = house.messages(job.id)
    assert messages.count(CONTINUES) == 3
    assert any(message.startswith("Resuming from step") for message in messages)
    assert [data["step"] for data in metrics(house, job)] == list(range(1, 73))  # each once, none missing
    assert [checkpoint.step_number for checkpoint in api.checkpoints.list(job.id).data] == [72, 66, 60]

    job = create(house, numbers={"n_epochs": 1000, "batch_size": 1})
    house.until(lambda: at_step(house, job, 1))
    assert api.retrieve(job.id).estimated_finish
    began = time.monotonic()
    assert api.cancel(job.id).status == "cancelled"
    house.until(lambda: not trainers(house), 10)
    assert time.monotonic() - began < 10
    assert api.retrieve(job.id).fine_tuned_model is None
