"""Jobs: long work as rows that a worker leases, renews by heartbeat, and finishes. It knows no kind of work.

The page, the API and the command line only enqueue; `models.worker` runs. A worker that dies lets its lease run
out, and the job is claimed again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import NotFound
from models.tables import JobRow

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]


@dataclass(frozen=True)
class Job:
    """One job as it stood when it was read. `progress` runs from 0 to 1."""

    id: str
    kind: str
    params: dict[str, Any]
    status: Status
    progress: float
    message: str
    result: dict[str, Any] | None
    error: str | None
    created: datetime
    started: datetime | None
    finished: datetime | None

    @property
    def over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.status in ("succeeded", "failed", "cancelled")


def enqueue(database: Database, kind: str, params: dict[str, Any]) -> str:
    """Puts work in the queue; returns the job's id."""
    job_id = new_ulid()
    with database.write() as session:
        session.add(JobRow(id=job_id, kind=kind, params=params, message="waiting for the worker"))
    return job_id


def get_job(database: Database, job_id: str) -> Job:
    """One job.

    Raises:
        NotFound: there is none with that id.
    """
    with database.read() as session:
        return _job(_row(session, job_id))


def list_jobs(database: Database, kind: str | None = None, limit: int = 50) -> list[Job]:
    """The newest jobs first."""
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.id.desc()).limit(limit)
    if kind:
        query = query.where(JobRow.kind == kind)
    with database.read() as session:
        return [_job(row) for row in session.scalars(query)]


def cancel(database: Database, job_id: str) -> Job:
    """Cancels a job: its worker hears of it at the next heartbeat. One that is over stays as it is."""
    with database.write() as session:
        row = _row(session, job_id)
        if row.status in ("queued", "running"):
            row.status, row.message, row.finished = "cancelled", "cancelled", utcnow()
        return _job(row)


def claim(database: Database, worker: str, lease_s: float = 30.0) -> Job | None:
    """Takes the oldest job that waits, or whose worker let its lease run out; None where there is none."""
    now = utcnow()
    free = or_(JobRow.status == "queued", and_(JobRow.status == "running", JobRow.lease_until < now))
    query = select(JobRow).where(free).order_by(JobRow.created, JobRow.id).limit(1).with_for_update(skip_locked=True)
    with database.write() as session:
        row = session.scalar(query)
        if row is None:
            return None
        row.status, row.worker, row.lease_until = "running", worker, now + timedelta(seconds=lease_s)
        row.started = row.started or now
        return _job(row)


def heartbeat(
    database: Database,
    job_id: str,
    worker: str,
    *,
    progress: float | None = None,
    message: str | None = None,
    lease_s: float = 30.0,
) -> bool:
    """Renews the lease and tells how far it is. False: cancelled, or somebody else's by now: stop."""
    with database.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None or row.status != "running" or row.worker != worker:
            return False
        row.lease_until = utcnow() + timedelta(seconds=lease_s)
        if progress is not None:
            row.progress = min(max(progress, 0.0), 1.0)
        if message is not None:
            row.message = message
        return True


def finish(
    database: Database,
    job_id: str,
    worker: str,
    *,
    result: dict[str, Any] | None = None,
    error: str | None = None,
) -> bool:
    """Ends a job, as failed where `error` is given. False where it was not this worker's any more."""
    with database.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None or row.status != "running" or row.worker != worker:
            return False
        row.status = "failed" if error else "succeeded"
        row.result, row.error, row.finished = result, error, utcnow()
        if not error:
            row.progress, row.message = 1.0, "done"
        return True


def _row(session: Session, job_id: str) -> JobRow:
    row = session.get(JobRow, job_id)
    if row is None:
        raise NotFound(f"There is no job {job_id!r}.")
    return row


def _job(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        params=row.params,
        status=cast(Status, row.status),
        progress=row.progress,
        message=row.message,
        result=row.result,
        error=row.error,
        created=row.created,
        started=row.started,
        finished=row.finished,
    )
