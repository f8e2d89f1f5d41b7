"""A job's status transitions: cancel, pause, resume, start, wait, fail. Each is one transaction with its event.

The job's own row is authoritative for the API. The worker's part is a row of `jobs`, cancelled and created in the same
transactions.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.jobs.jobs import cancel_in, enqueue_in
from models.tables import JobRow
from train.tables import FineTuningEventRow, FineTuningRow

ACTIVE = ("validating_files", "queued", "running")


def add_event(
    session: Session,
    job_id: str,
    message: str,
    *,
    level: str = "info",
    data: Mapping[str, Any] | None = None,
    step: int | None = None,
) -> None:
    """Adds an event; one with a `step` carries that step's metrics."""
    session.add(
        FineTuningEventRow(
            id=f"ftevent-{new_ulid()}",
            job=job_id,
            level=level,
            type="message" if step is None else "metrics",
            message=message,
            data=dict(data or {}),
            step=step,
        )
    )


def lock_job(session: Session, job_id: str) -> FineTuningRow:
    """A job's row, locked until the transaction ends.

    Raises:
        NotFound: there is no such job.
    """
    row = session.scalar(select(FineTuningRow).where(FineTuningRow.id == job_id).with_for_update())
    if row is None:
        raise not_found(job_id)
    return row


def not_found(job_id: str) -> NotFound:
    """The error for an unknown job."""
    return NotFound(f"Could not find fine tune: {job_id[:80]}", code="fine_tune_not_found", param="fine_tune_id")


def cancel(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Cancels a job at once; its training's process is gone within ten seconds.

    Args:
        repeated: the SDK repeats a request that got no response; if it is done already, that is not an error. The same
            applies to `pause` and `resume`.

    Raises:
        NotFound. Invalid: it has ended.
    """
    with database.write() as session:
        row = lock_job(session, job_id)
        if repeated and row.status == "cancelled":
            return
        _require_active(row)
        cancel_in(session, row.job)
        row.status, row.paused, row.finished, row.estimated_finish = "cancelled", False, utcnow(), None
        add_event(session, job_id, "The job was cancelled")


def pause(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Stops a job until it is resumed; it then continues from its last checkpoint.

    Raises:
        NotFound. Invalid: it has ended, or its files are still being validated.
    """
    with database.write() as session:
        row = lock_job(session, job_id)
        _require_active(row)
        if row.paused and repeated:
            return
        if row.paused:
            raise Invalid(f"Job {job_id} is paused already.", code="invalid_job_status")
        if row.status == "validating_files":
            raise Invalid(
                f"Job {job_id} is still validating its files: pause it once it is queued or running.",
                code="invalid_job_status",
            )
        cancel_in(session, row.job)
        row.status, row.paused, row.estimated_finish = "queued", True, None
        add_event(session, job_id, "The job is paused: it stays queued until it is resumed")


def resume(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Returns a paused job to the queue.

    Raises:
        NotFound. Invalid: it has ended, or is not paused.
    """
    with database.write() as session:
        row = lock_job(session, job_id)
        _require_active(row)
        if repeated and not row.paused:
            return
        if not row.paused:
            raise Invalid(f"Job {job_id} is not paused: its status is {row.status}.", code="invalid_job_status")
        row.paused, row.job = False, enqueue_in(session, "fine-tune", {"fine_tuning_job": job_id})
        add_event(session, job_id, "The job is resumed and waits for the worker")


def start(session: Session, row: FineTuningRow) -> None:
    """Marks a job as running, for the first time or again; a job that was stopped meanwhile stays unchanged."""
    if row.paused or row.status not in ("queued", "running"):
        return
    again = row.started is not None
    row.status, row.started = "running", row.started or utcnow()
    add_event(
        session, row.id, "Fine-tuning job continues from its last checkpoint" if again else "Fine-tuning job started"
    )


def wait(session: Session, row: FineTuningRow, reason: str) -> None:
    """Marks a job as queued while the worker cannot train it yet."""
    if not row.paused and row.status in ("queued", "running"):
        row.status, row.estimated_finish = "queued", None
        add_event(session, row.id, reason)


def fail(session: Session, row: FineTuningRow, error: Mapping[str, Any], lines: Iterable[str] = ()) -> None:
    """Fails a job that has not ended. `error` has code, message, param; `lines` become events before it."""
    if row.status not in ACTIVE:
        return
    row.status, row.error, row.finished, row.estimated_finish = "failed", dict(error), utcnow(), None
    for line in lines:
        add_event(session, row.id, line, level="error")
    add_event(session, row.id, error["message"], level="error", data={"error_code": error["code"]})


def settle(database: Database, job_id: str) -> None:
    """Fails a job whose worker job has failed without updating it: it killed workers too often, or hit a bug."""
    with database.write() as session:
        row = session.scalar(select(FineTuningRow).where(FineTuningRow.id == job_id).with_for_update())
        if row is None or row.paused or row.status not in ACTIVE:
            return
        work = session.get(JobRow, row.job)
        if work is None or work.status == "failed":
            reason = work.error if work is not None and work.error else "Its worker job is missing."
            fail(session, row, {"code": "server_error", "message": reason, "param": None})


def _require_active(row: FineTuningRow) -> None:
    if row.status not in ACTIVE:
        raise Invalid(f"Job has already completed: {row.id} is {row.status}.", code="invalid_job_status")
