"""Which status follows which: cancel, pause, resume, start, fail, succeed. Each is one transaction with its event.

A job's own row is the truth for the API; what the worker does for it is a row of `models.jobs`, stopped and made anew
in the same transactions. Nothing here trains.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import Database, utcnow
from models.errors import Invalid, NotFound
from models.jobs import cancel_in, enqueue_in
from models.tables import JobRow
from train.finetuning import names
from train.tables import FineTuningEventRow, FineTuningRow

ACTIVE = ("validating_files", "queued", "running")


def tell(
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
            id=names.event_id(),
            job=job_id,
            level=level,
            type="message" if step is None else "metrics",
            message=message,
            data=dict(data or {}),
            step=step,
        )
    )


def locked(session: Session, job_id: str) -> FineTuningRow:
    """A job's row, held until the transaction ends.

    Raises:
        NotFound: there is none with that id.
    """
    row = session.scalar(select(FineTuningRow).where(FineTuningRow.id == job_id).with_for_update())
    if row is None:
        raise not_found(job_id)
    return row


def not_found(job_id: str) -> NotFound:
    """The 404 for a job."""
    return NotFound(f"Could not find fine tune: {job_id[:80]}", code="fine_tune_not_found", param="fine_tune_id")


def cancel(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Cancels a job at once; its training's process is gone within ten seconds.

    Args:
        repeated: the SDK asks again because it got no answer: what is done already is then no mistake. So below.

    Raises:
        NotFound. Invalid: it is over.
    """
    with database.write() as session:
        row = locked(session, job_id)
        if repeated and row.status == "cancelled":
            return
        _refuse_over(row)
        cancel_in(session, row.job)
        row.status, row.paused, row.finished, row.estimated_finish = "cancelled", False, utcnow(), None
        tell(session, job_id, "The job was cancelled")


def pause(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Stops a job until it is resumed; it goes on from its last checkpoint then.

    Raises:
        NotFound. Invalid: it is over, or its files are still being validated.
    """
    with database.write() as session:
        row = locked(session, job_id)
        _refuse_over(row)
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
        tell(session, job_id, "The job is paused: it stays queued until it is resumed")


def resume(database: Database, job_id: str, *, repeated: bool = False) -> None:
    """Puts a paused job back into the queue.

    Raises:
        NotFound. Invalid: it is over, or not paused.
    """
    with database.write() as session:
        row = locked(session, job_id)
        _refuse_over(row)
        if repeated and not row.paused:
            return
        if not row.paused:
            raise Invalid(f"Job {job_id} is not paused: its status is {row.status}.", code="invalid_job_status")
        row.paused, row.job = False, enqueue_in(session, "fine-tune", {"fine_tuning_job": job_id})
        tell(session, job_id, "The job is resumed: it waits for the worker")


def start(session: Session, row: FineTuningRow) -> None:
    """The worker trains it, for the first time or again. One that was stopped meanwhile stays as it is."""
    if row.paused or row.status not in ("queued", "running"):
        return
    again = row.started is not None
    row.status, row.started = "running", row.started or utcnow()
    tell(session, row.id, "Fine-tuning job goes on from its last checkpoint" if again else "Fine-tuning job started")


def wait(session: Session, row: FineTuningRow, why: str) -> None:
    """The worker has it and cannot train it yet."""
    if not row.paused and row.status in ("queued", "running"):
        row.status, row.estimated_finish = "queued", None
        tell(session, row.id, why)


def fail(session: Session, row: FineTuningRow, error: Mapping[str, Any], lines: Iterable[str] = ()) -> None:
    """Ends a job that is not over yet. `error` has code, message, param; `lines` are told one by one before it."""
    if row.status not in ACTIVE:
        return
    row.status, row.error, row.finished, row.estimated_finish = "failed", dict(error), utcnow(), None
    for line in lines:
        tell(session, row.id, line, level="error")
    tell(session, row.id, error["message"], level="error", data={"error_code": error["code"]})


def settle(database: Database, job_id: str) -> None:
    """Fails a job whose work has failed behind its back: a worker that it killed too often, a fault of ours."""
    with database.write() as session:
        row = session.scalar(select(FineTuningRow).where(FineTuningRow.id == job_id).with_for_update())
        if row is None or row.paused or row.status not in ACTIVE:
            return
        work = session.get(JobRow, row.job)
        if work is None or work.status == "failed":
            why = work.error if work is not None and work.error else "Its work is gone from the queue."
            fail(session, row, {"code": "server_error", "message": why, "param": None})


def _refuse_over(row: FineTuningRow) -> None:
    if row.status not in ACTIVE:
        raise Invalid(f"Job has already completed: {row.id} is {row.status}.", code="invalid_job_status")
