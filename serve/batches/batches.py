"""Creates, lists and cancels batches; returns the API's objects. A client's key sees only its own batches.

The worker's job changes a batch from then on: see `serve.batches.batch_job`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from models.database import Database, new_ulid, utcnow
from models.errors import Conflict, Invalid, NotFound
from models.files.stored_files import BATCH as BATCH_PURPOSE
from models.files.stored_files import MAX_BATCH_BYTES, FileAccess, Files
from models.http.repeated_requests import Caller, find_repeated, request_digest
from models.jobs.jobs import cancel_in, enqueue_in
from models.settings.settings import Settings
from models.tables import JobRow
from serve.batches.operations import BatchCreate
from serve.tables import BatchRow

BATCH_JOB = "batch"  # the kind of the worker's job
WINDOW = timedelta(hours=24)
FINAL = frozenset({"failed", "completed", "expired", "cancelled"})
TIMES = (
    "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at",
)  # fmt: skip
_Query = TypeVar("_Query", bound=Select)
# What a job's end means for a batch whose worker could not finish it.
_ENDED_JOBS = {"failed": "failed", "cancelled": "cancelled", "succeeded": "failed"}


@dataclass(frozen=True)
class BatchPage:
    """A page of batches, and whether more follow."""

    data: list[dict[str, Any]]
    has_more: bool


class Batches:
    """The batches that a key may see: its own, or all for an owner's key and where no key is needed."""

    def __init__(self, settings: Settings, database: Database, access: FileAccess | None = None) -> None:
        self._settings, self._database = settings, database
        self._access = access or FileAccess()

    def create(self, request: BatchCreate, caller: Caller) -> dict[str, Any]:
        """Creates a batch and its job in one transaction. For a repeated request, returns the first one's batch.

        Raises:
            Invalid: the input file does not exist, is too large, or has another purpose.
        """
        self._check_file(request.input_file_id)
        content = request.model_dump(mode="json")
        digest = request_digest(caller, content)
        if caller.repeated and (row := find_repeated(self._database, BatchRow, digest)):
            return self.get(row.id)
        now, batch_id = utcnow(), f"batch_{new_ulid()}"
        with self._database.write() as session:
            row = BatchRow(
                id=batch_id, key_id=caller.key, status="validating", request=content, outcome={}, counts={}, times={},
                job=enqueue_in(session, BATCH_JOB, {"batch": batch_id}), digest=digest, created=now,
                expires=now + WINDOW,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return batch_json(row, None)

    def get(self, batch_id: str) -> dict[str, Any]:
        """One batch.

        Raises:
            NotFound: there is none with that id, or it is another key's.
        """
        with self._database.read() as session:
            row = self._row(session, batch_id)
            return batch_json(row, session.get(JobRow, row.job))

    def page(self, after: str | None = None, limit: int = 20) -> BatchPage:
        """Batches, newest first.

        Raises:
            NotFound: `after` is not a batch.
        """
        query = self._visible(select(BatchRow, JobRow).outerjoin(JobRow, JobRow.id == BatchRow.job))
        with self._database.read() as session:
            if after is not None:
                query = query.where(BatchRow.number < self._row(session, after, "after").number)
            rows = session.execute(query.order_by(BatchRow.number.desc()).limit(limit + 1)).all()
        return BatchPage([batch_json(row, job) for row, job in rows[:limit]], len(rows) > limit)

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Cancels a batch: at once if it has not begun, else when the worker has written the results so far.

        Raises:
            NotFound: there is none with that id. Conflict: it has ended.
        """
        with self._database.write() as session:
            row = self._row(session, batch_id)
            job = session.get(JobRow, row.job, with_for_update=True)
            status = status_of(row, job)
            if status in FINAL or status == "finalizing":
                raise Conflict(
                    f"Cannot cancel a batch with status '{status}'.",
                    code="invalid_batch_status",
                    headers={"x-should-retry": "false"},
                )
            if status != "cancelling":
                set_status(row, "cancelling")
                if job is None or (job.status == "queued" and "in_progress_at" not in row.times):
                    cancel_in(session, row.job)
                    set_status(row, "cancelled")
            return batch_json(row, job)

    def _check_file(self, file_id: str) -> None:
        try:
            file = Files(self._settings, self._database, self._access).get(file_id)
        except NotFound:
            raise Invalid(f"There is no file {file_id[:80]!r}.", param="input_file_id") from None
        if file.purpose != BATCH_PURPOSE:
            raise Invalid(
                f"The file {file.id} has the purpose {file.purpose}: upload it with purpose {BATCH_PURPOSE}.",
                param="input_file_id",
            )
        if file.size > MAX_BATCH_BYTES:
            raise Invalid(
                f"The file {file.id} has {file.size:,} bytes; a batch's input may have {MAX_BATCH_BYTES:,}. Divide it.",
                param="input_file_id",
            )

    def _row(self, session: Session, batch_id: str, param: str = "batch_id") -> BatchRow:
        row = session.scalar(self._visible(select(BatchRow)).where(BatchRow.id == batch_id[:64]))
        if row is None:
            raise NotFound(f"There is no batch {batch_id[:80]!r}.", code="not_found", param=param)
        return row

    def _visible(self, query: _Query) -> _Query:
        return query.where(BatchRow.key_id == self._access.key_id) if self._access.own_only else query


def set_status(row: BatchRow, status: str) -> None:
    """Sets a batch's status and the time at which it began."""
    row.status = status
    row.times = row.times | {f"{status}_at": int(utcnow().timestamp())}


def status_of(row: BatchRow, job: JobRow | None) -> str:
    """A batch's status. If its job has ended without finishing it, the job's end counts."""
    ended = job is not None and row.status not in FINAL and _ENDED_JOBS.get(job.status)
    return ended or row.status


def batch_json(row: BatchRow, job: JobRow | None) -> dict[str, Any]:
    """The API's object."""
    request, outcome = row.request, row.outcome
    status = status_of(row, job)
    errors, times = outcome.get("errors"), dict(row.times)
    if status != row.status and job is not None and job.finished is not None:
        times.setdefault(f"{status}_at", int(job.finished.timestamp()))
        if status == "failed":
            errors = [batch_error("batch_failed", job.error or "The batch ended without a result.")]
    return {
        "id": row.id,
        "object": "batch",
        "endpoint": request["endpoint"],
        "model": outcome.get("model"),
        "errors": {"object": "list", "data": errors} if errors else None,
        "input_file_id": request["input_file_id"],
        "completion_window": request["completion_window"],
        "status": status,
        "output_file_id": outcome.get("output_file_id"),
        "error_file_id": outcome.get("error_file_id"),
        "created_at": int(row.created.timestamp()),
        "expires_at": int(row.expires.timestamp()),
        **{name: times.get(name) for name in TIMES},
        "request_counts": {name: row.counts.get(name, 0) for name in ("total", "completed", "failed")},
        "usage": outcome.get("usage"),
        "metadata": request["metadata"],
    }


def batch_error(code: str, message: str, line: int | None = None, param: str | None = None) -> dict[str, Any]:
    """An entry of a batch's `errors`."""
    return {"code": code, "line": line, "message": message, "param": param}


def lifetime_of(request: Mapping[str, Any]) -> timedelta | None:
    """How long a batch's output files are kept; None: until they are deleted."""
    policy = request.get("output_expires_after")
    return timedelta(seconds=policy["seconds"]) if policy else None
