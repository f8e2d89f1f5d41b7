"""Jobs: rows of long work that a worker leases, renews by heartbeat and finishes.

The page, the API and the command line enqueue jobs; worker.py runs them. When a worker dies, its lease expires and
another worker claims the job. After three such attempts in a row without progress the job fails.

A job may also reserve memory. The supervisor stops engines to satisfy reservations and starts none in reserved memory.
A reservation expires unless it is renewed, so a killed job holds none.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import and_, delete, func, or_, select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import NotFound
from models.tables import JobRow, ReservationRow

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
MAX_ATTEMPTS = 3
_QUEUED = "waiting for the worker"


@dataclass(frozen=True)
class Job:
    """One job when it was read. `progress`, from 0 to 1, never decreases.

    `attempts` counts the workers that have claimed it since its progress last increased.
    """

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
    attempts: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status in ("succeeded", "failed", "cancelled")


def enqueue(database: Database, kind: str, params: dict[str, Any]) -> str:
    """Enqueues a job; returns its id."""
    with database.write() as session:
        return enqueue_in(session, kind, params)


def enqueue_in(session: Session, kind: str, params: dict[str, Any]) -> str:
    """Enqueues a job in the caller's transaction; returns its id."""
    job_id = new_ulid()
    session.add(JobRow(id=job_id, kind=kind, params=params, message=_QUEUED))
    return job_id


def get_job(database: Database, job_id: str) -> Job:
    """One job.

    Raises:
        NotFound: there is none with that id.
    """
    with database.read() as session:
        return _job(_row(session, job_id))


def list_jobs(database: Database, kind: str | None = None, limit: int = 50) -> list[Job]:
    """The newest jobs, newest first."""
    query = select(JobRow).order_by(JobRow.created.desc(), JobRow.id.desc()).limit(limit)
    if kind:
        query = query.where(JobRow.kind == kind)
    with database.read() as session:
        return [_job(row) for row in session.scalars(query)]


def cancel(database: Database, job_id: str) -> Job:
    """Cancels a job; its worker stops at the next heartbeat. A job that has ended stays unchanged."""
    with database.write() as session:
        return cancel_in(session, job_id)


def cancel_in(session: Session, job_id: str) -> Job:
    """Cancels a job in the caller's transaction."""
    row = _row(session, job_id)
    if row.status in ("queued", "running"):
        row.status, row.message, row.finished = "cancelled", "cancelled", utcnow()
    return _job(row)


def claim(
    database: Database,
    worker: str,
    lease_s: float = 30.0,
    *,
    kinds: Collection[str] | None = None,
    exclude: Collection[str] = (),
) -> Job | None:
    """Leases the oldest queued or abandoned job to a worker; returns None if there is none.

    A job whose workers have died `MAX_ATTEMPTS` times in a row fails here.

    Args:
        kinds: only these kinds; None for all. exclude: none of these kinds.
    """
    now = utcnow()
    free = or_(JobRow.status == "queued", and_(JobRow.status == "running", JobRow.lease_until < now))
    query = select(JobRow).where(free, JobRow.kind.not_in(exclude))
    if kinds is not None:
        query = query.where(JobRow.kind.in_(kinds))
    query = query.order_by(JobRow.created, JobRow.id).with_for_update(skip_locked=True)
    with database.write() as session:
        while (row := session.scalar(query.limit(1))) is not None:
            if row.attempts < MAX_ATTEMPTS:
                row.status, row.worker, row.lease_until = "running", worker, now + timedelta(seconds=lease_s)
                row.started = row.started or now
                if row.message == _QUEUED:
                    row.message = "started"
                row.attempts += 1
                return _job(row)
            row.status, row.finished = "failed", now
            row.error = (
                f"The worker died {row.attempts} times in a row during this job, the last time at: {row.message}. "
                "See the worker's log; the most likely reason is a lack of memory."
            )
            session.flush()
        return None


def release(database: Database, job_id: str, worker: str) -> None:
    """Returns a job to the queue because its worker stops. It does not count as an attempt."""
    with database.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is not None and row.status == "running" and row.worker == worker:
            row.status, row.worker, row.lease_until, row.message = "queued", None, None, _QUEUED
            row.attempts = max(0, row.attempts - 1)


def heartbeat(
    database: Database,
    job_id: str,
    worker: str,
    *,
    progress: float | None = None,
    message: str | None = None,
    lease_s: float = 30.0,
) -> bool:
    """Renews the lease and stores the progress. False if the job is cancelled or another worker's: stop then."""
    with database.write() as session:
        row = session.get(JobRow, job_id, with_for_update=True)
        if row is None or row.status != "running" or row.worker != worker:
            return False
        row.lease_until = utcnow() + timedelta(seconds=lease_s)
        if progress is not None and progress > row.progress:
            row.progress, row.attempts = min(progress, 1.0), 1
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
    """Ends a job, as failed if `error` is given. False if it is not this worker's any more."""
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
        attempts=row.attempts,
    )


def reserve_memory(database: Database, holder: str, size: int, seconds: float) -> None:
    """Reserves `size` bytes for `seconds`, or renews the holder's reservation.

    It is GPU memory if engines run on a GPU, otherwise the machine's.
    """
    with database.write() as session:
        session.merge(ReservationRow(holder=holder, size=size, until=utcnow() + timedelta(seconds=seconds)))


def release_memory(database: Database, holder: str) -> None:
    """Ends a holder's reservation."""
    with database.write() as session:
        session.execute(delete(ReservationRow).where(ReservationRow.holder == holder))


def reserved_memory(database: Database) -> int:
    """All bytes reserved now."""
    query = select(func.sum(ReservationRow.size)).where(ReservationRow.until > utcnow())
    with database.read() as session:
        return int(session.scalar(query) or 0)
