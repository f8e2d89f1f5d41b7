"""Jobs and their worker: leases, cancellation, failures, lanes."""

import threading
import time

import pytest

from models.database import Database
from models.errors import Invalid, NotFound
from models.jobs import jobs
from models.jobs.jobs import Job
from models.jobs.worker import JobContext, run_worker
from models.settings.settings import Settings

HANDLERS = {
    "double": "tests.models.test_jobs:double",
    "refuse": "tests.models.test_jobs:refuse",
    "break": "tests.models.test_jobs:break_down",
    "endless": "tests.models.test_jobs:endless",
    "unstorable": "tests.models.test_jobs:unstorable",
}


def double(job: Job, context: JobContext) -> dict:
    context.report(0.5, "half way")
    return {"value": job.params["value"] * 2}


def refuse(job: Job, context: JobContext) -> dict:
    raise Invalid("That is no number.")


def break_down(job: Job, context: JobContext) -> dict:
    raise ZeroDivisionError("broken")


def unstorable(job: Job, context: JobContext) -> dict:
    return {"value": object()}


def endless(job: Job, context: JobContext) -> dict:
    while True:
        context.report(message="still at it")
        time.sleep(0.02)


@pytest.fixture
def worker(settings: Settings, any_database: Database):
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(settings, any_database, HANDLERS), kwargs={"stop": stop}, daemon=True
    )
    thread.start()
    yield any_database
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def wait(database: Database, job_id: str, timeout_s: float = 20) -> Job:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = jobs.get_job(database, job_id)
        if job.over:
            return job
        time.sleep(0.05)
    raise AssertionError(f"job {job_id} is not over after {timeout_s} s")


@pytest.mark.long
def test_a_job_runs_to_its_result(worker: Database) -> None:
    job = wait(worker, jobs.enqueue(worker, "double", {"value": 21}))
    assert (job.status, job.result, job.progress) == ("succeeded", {"value": 42}, 1.0)


@pytest.mark.long
def test_failed_jobs_store_their_error_and_the_worker_continues(worker: Database) -> None:
    errors = {
        "refuse": "no number", "break": "ZeroDivisionError", "odd": "odd", "unstorable": "not JSON serializable",
    }  # fmt: skip
    failing = {kind: jobs.enqueue(worker, kind, {}) for kind in errors}
    assert wait(worker, jobs.enqueue(worker, "double", {"value": 1})).status == "succeeded"
    for kind, job_id in failing.items():
        job = wait(worker, job_id)
        assert job.status == "failed"
        assert errors[kind] in (job.error or "")


@pytest.mark.long
def test_a_running_job_is_cancelled_and_the_worker_continues(worker: Database) -> None:
    job_id = jobs.enqueue(worker, "endless", {})
    while jobs.get_job(worker, job_id).status != "running":
        time.sleep(0.02)
    assert jobs.cancel(worker, job_id).status == "cancelled"
    assert wait(worker, jobs.enqueue(worker, "double", {"value": 1})).status == "succeeded"
    assert jobs.get_job(worker, job_id).status == "cancelled"


def test_a_job_with_an_expired_lease_is_claimed_by_another_worker(any_database: Database) -> None:
    job_id = jobs.enqueue(any_database, "double", {"value": 1})
    assert jobs.claim(any_database, "first") is not None
    assert jobs.claim(any_database, "second") is None
    assert jobs.heartbeat(any_database, job_id, "first", lease_s=-1)  # the lease has expired
    second = jobs.claim(any_database, "second")
    assert second is not None
    assert second.id == job_id
    assert not jobs.heartbeat(any_database, job_id, "first")
    assert not jobs.finish(any_database, job_id, "first", result={})
    assert jobs.heartbeat(any_database, job_id, "second", progress=7)
    assert jobs.get_job(any_database, job_id).progress == 1.0
    assert jobs.finish(any_database, job_id, "second", result={"value": 2})


def test_concurrent_workers_never_claim_the_same_job(any_database: Database) -> None:
    ids = {jobs.enqueue(any_database, "double", {"value": 1}) for _ in range(12)}
    taken: list[str] = []

    def take(name: str) -> None:
        while (job := jobs.claim(any_database, name)) is not None:
            taken.append(job.id)

    threads = [threading.Thread(target=take, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)


def test_an_unknown_job_is_one_line(database: Database) -> None:
    with pytest.raises(NotFound):
        jobs.get_job(database, "nobody")


def test_a_job_that_kills_its_workers_fails(any_database: Database) -> None:
    job_id = jobs.enqueue(any_database, "double", {"value": 1})
    for number in range(jobs.MAX_ATTEMPTS):
        taken = jobs.claim(any_database, f"worker {number}", lease_s=-1)
        assert taken is not None
        assert taken.attempts == number + 1
    other = jobs.enqueue(any_database, "double", {"value": 2})
    taken = jobs.claim(any_database, "last")
    assert taken is not None
    assert taken.id == other  # the failing job is skipped
    job = jobs.get_job(any_database, job_id)
    assert job.status == "failed"
    assert "3 times" in (job.error or "")


def test_attempts_with_progress_do_not_count_as_failures(any_database: Database) -> None:
    job_id = jobs.enqueue(any_database, "double", {"value": 1})
    for number in range(3 * jobs.MAX_ATTEMPTS):
        assert jobs.claim(any_database, "worker", lease_s=-1) is not None
        assert jobs.heartbeat(any_database, job_id, "worker", progress=0.1 * number + 0.01, lease_s=-1)
    assert jobs.heartbeat(any_database, job_id, "worker", progress=0.5)
    assert jobs.get_job(any_database, job_id).progress == pytest.approx(0.81)  # it never decreases


def test_a_released_job_is_queued_again_without_counting_an_attempt(any_database: Database) -> None:
    job_id = jobs.enqueue(any_database, "double", {"value": 1})
    for _ in range(2 * jobs.MAX_ATTEMPTS):
        assert jobs.get_job(any_database, job_id).message == "waiting for the worker"
        taken = jobs.claim(any_database, "worker")
        assert taken is not None
        assert taken.message == "started"
        jobs.heartbeat(any_database, job_id, "worker", message="halfway")
        jobs.release(any_database, job_id, "another worker")
        assert jobs.get_job(any_database, job_id).status == "running"
        jobs.release(any_database, job_id, "worker")
        assert jobs.get_job(any_database, job_id).status == "queued"


def test_a_stopping_worker_returns_its_job_to_the_queue(any_database: Database, settings: Settings) -> None:
    job_id = jobs.enqueue(any_database, "endless", {})
    stop = threading.Event()
    thread = threading.Thread(target=run_worker, args=(settings, any_database, HANDLERS), kwargs={"stop": stop})
    thread.start()
    while jobs.get_job(any_database, job_id).status != "running":
        time.sleep(0.02)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert jobs.get_job(any_database, job_id).status == "queued"


@pytest.mark.long
def test_a_lane_does_not_delay_other_kinds(any_database: Database, settings: Settings) -> None:
    stop = threading.Event()
    thread = threading.Thread(
        target=run_worker, args=(settings, any_database, HANDLERS), kwargs={"stop": stop, "lanes": (("endless",),)}
    )
    thread.start()
    try:
        first, second = (jobs.enqueue(any_database, "endless", {}) for _ in range(2))
        assert wait(any_database, jobs.enqueue(any_database, "double", {"value": 1})).status == "succeeded"
        while jobs.get_job(any_database, first).status != "running":
            time.sleep(0.02)
        assert jobs.get_job(any_database, second).status == "queued"
    finally:
        stop.set()
        thread.join(10)
