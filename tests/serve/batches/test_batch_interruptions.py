"""Batches that are cancelled or expire, and kills and stops of worker and gateway: no row is lost or appears twice."""

import json
import subprocess
import sys
import time
from datetime import timedelta
from typing import Any

import openai
import pytest
from sqlalchemy import select, update

from models.database import Database, utcnow
from models.jobs import jobs
from models.settings.environment import child_environment
from models.tables import JobRow
from serve.tables import BatchRow
from tests.serve.batches.deployment import BatchDeployment, row, write_state
from tests.stack import ROOT


def change(database: Database, batch_id: str, **values: Any) -> None:
    with database.write() as session:
        session.execute(update(BatchRow).where(BatchRow.id == batch_id).values(**values))


def test_a_batch_that_waits_is_cancelled_at_once(deployment: BatchDeployment) -> None:
    batch = deployment.client.batches.cancel(deployment.create([row("a")]).id)
    assert (batch.status, batch.output_file_id) == ("cancelled", None)
    assert batch.cancelled_at is not None
    assert jobs.claim(deployment.database, "worker", kinds=("batch",)) is None
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        deployment.client.batches.cancel(batch.id)


@pytest.mark.parametrize("by", ["batch", "job"])
def test_a_cancelled_batch_keeps_what_is_answered(deployment: BatchDeployment, by: str) -> None:
    deployment.upstream.answers_at_most = 10
    batch = deployment.create([row(str(number), f"question {number}") for number in range(100)])
    with deployment.working():
        deployment.wait(batch.id, "in_progress")
        _until_answered(deployment, batch.id, 9)  # the first is sent alone, the others together
        if by == "batch":
            assert deployment.client.batches.cancel(batch.id).status == "cancelling"
        else:
            jobs.cancel(deployment.database, _job(deployment, batch.id))
        ended = deployment.wait(batch.id)
        while by == "job" and ended.output_file_id is None:
            ended = deployment.client.batches.retrieve(batch.id)
    assert ended.status == "cancelled"
    assert ended.request_counts is not None
    assert ended.request_counts.completed == 10
    done, left = deployment.lines(ended.output_file_id), deployment.lines(ended.error_file_id)
    assert len(done) == 10
    assert {line["error"]["code"] for line in left} == {"batch_cancelled"}
    assert sorted(int(line["custom_id"]) for line in (*done, *left)) == list(range(100))


def test_what_is_not_done_in_time_expires(deployment: BatchDeployment) -> None:
    deployment.upstream.answers_at_most = 3
    batch = deployment.create([row(str(number), f"question {number}") for number in range(8)])
    change(deployment.database, batch.id, expires=utcnow() + timedelta(seconds=2))
    deployment.work()
    ended = deployment.client.batches.retrieve(batch.id)
    assert ended.status == "expired"
    assert ended.expired_at is not None
    done, left = deployment.lines(ended.output_file_id), deployment.lines(ended.error_file_id)
    assert (len(done), len(left)) == (3, 5)
    assert {line["error"]["code"] for line in left} == {"batch_expired"}


def test_the_input_may_be_deleted_once_the_batch_runs(deployment: BatchDeployment) -> None:
    deleted = deployment.create([row("a")])
    deployment.client.files.delete(deleted.input_file_id)
    deployment.work()
    batch = deployment.client.batches.retrieve(deleted.id)
    assert batch.errors is not None
    assert [error.code for error in batch.errors.data or ()] == ["file_not_found"]
    deployment.upstream.answers_at_most = 0
    batch = deployment.create([row("a")])
    with deployment.working() as stop:
        deployment.wait(batch.id, "in_progress")
        deployment.client.files.delete(batch.input_file_id)
        stop.set()
    deployment.upstream.answers_at_most = None
    deployment.work()
    assert deployment.client.batches.retrieve(batch.id).status == "completed"


def test_a_stopped_worker_goes_on_without_a_lost_or_doubled_row(deployment: BatchDeployment) -> None:
    deployment.upstream.answers_at_most = 30
    batch = deployment.create([row(str(number), f"question {number}") for number in range(200)])
    with deployment.working() as stop:
        _until_answered(deployment, batch.id, 29)
        stop.set()
    assert deployment.client.batches.retrieve(batch.id).status == "in_progress"
    asked = {question for _, question in deployment.upstream.asked}
    deployment.upstream.answers_at_most = None
    before = len(deployment.upstream.asked)
    deployment.work()
    done = deployment.client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert [line["custom_id"] for line in deployment.lines(done.output_file_id)] == [str(n) for n in range(200)]
    assert len(deployment.upstream.asked) - before == 200 - 30
    assert len(asked) <= 200


def test_a_gateway_that_restarts_is_waited_for(deployment: BatchDeployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.batches.row_requests._FIRST_DELAY_S", 0.01)
    batch = deployment.create([row(str(n), f"question {n}") for n in range(3)])
    write_state(deployment.settings, "http://127.0.0.1:1/v1")
    with deployment.working():
        deadline = time.monotonic() + 30
        while "cannot be reached" not in jobs.get_job(deployment.database, _job(deployment, batch.id)).message:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert deployment.client.batches.retrieve(batch.id).status == "validating"
        write_state(deployment.settings, deployment.gateway.base_url)
        assert deployment.wait(batch.id).status == "completed"


def _job(deployment: BatchDeployment, batch_id: str) -> str:
    with deployment.database.read() as session:
        return session.scalars(select(BatchRow.job).where(BatchRow.id == batch_id)).one()


def _until_answered(deployment: BatchDeployment, batch_id: str, count: int) -> None:
    """Waits until more than that many answers are in the journal."""
    path = deployment.settings.batches_dir / batch_id / "answers.jsonl.partial"
    deadline = time.monotonic() + 30
    while not path.exists() or path.read_bytes().count(b"\n") <= count + 1:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert json.loads(path.read_bytes().splitlines()[1])["line"]["response"]


@pytest.mark.long
def test_a_killed_worker_loses_and_doubles_nothing(deployment: BatchDeployment) -> None:
    deployment.upstream.answers_at_most = 40
    batch = deployment.create([row(str(number), f"question {number}") for number in range(120)])
    environment = child_environment(deployment.settings)
    worker = subprocess.Popen([sys.executable, "-m", "parley", "worker"], cwd=ROOT, env=environment)
    try:
        _until_answered(deployment, batch.id, 39)
    finally:
        worker.kill()
        worker.wait()
    journal = deployment.settings.batches_dir / batch.id / "answers.jsonl.partial"
    with journal.open("ab") as stream:  # the kill may have come in the middle of a line
        stream.write(b'{"row": 77, "failed": false, "line": {"custom')
    with deployment.database.read() as session:
        row_of_job = session.get_one(JobRow, _job(deployment, batch.id))
    jobs.release(deployment.database, row_of_job.id, str(row_of_job.worker))  # as its lease does in time
    deadline = time.monotonic() + 30
    while deployment.gateway.app.metrics.in_flight.value:  # requests of the killed worker, sent in its last moment
        assert time.monotonic() < deadline
        time.sleep(0.01)
    deployment.upstream.answers_at_most = None
    before = len(deployment.upstream.asked)
    deployment.work()
    done = deployment.client.batches.retrieve(batch.id)
    assert done.status == "completed"
    assert [line["custom_id"] for line in deployment.lines(done.output_file_id)] == [str(n) for n in range(120)]
    assert len(deployment.upstream.asked) - before == 120 - 40
