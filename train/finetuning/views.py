"""Jobs, events and checkpoints as OpenAI's API objects, in pages, newest first."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import Database
from models.errors import NotFound
from models.tables import JobRow
from train.finetuning.lifecycle import ACTIVE, not_found, settle
from train.finetuning.requests import HYPERPARAMETERS
from train.tables import FineTuningCheckpointRow, FineTuningEventRow, FineTuningRow

_AT_ONCE = 200  # rows per query when a filter is applied


@dataclass(frozen=True)
class Page:
    """A page of a list, and whether there are more."""

    data: list[dict[str, Any]]
    has_more: bool


def job(database: Database, job_id: str) -> dict[str, Any]:
    """One job.

    Raises:
        NotFound: there is no such job.
    """
    with database.read() as session:
        row = _job_row(session, job_id)
        broken = _work_has_failed(session, row)
    if broken:
        settle(database, job_id)
        with database.read() as session:
            row = _job_row(session, job_id)
    return _job(row)


def jobs(
    database: Database, *, after: str | None, limit: int, metadata: Mapping[str, str] | None = None, bare: bool = False
) -> Page:
    """Jobs, newest first.

    Args:
        after: the last id of the previous page. metadata: pairs that a job's metadata must contain; `bare`: only jobs
            without metadata.

    Raises:
        NotFound: `after` is not a job.
    """
    with database.read() as session:
        matching = (row for row in _newest_first(session, after) if _matches(row, metadata or {}, bare))
        rows = [row for _, row in zip(range(limit + 1), matching, strict=False)]
        broken = [row.id for row in rows[:limit] if _work_has_failed(session, row)]
    shown = [_job(row) for row in rows[:limit]]
    for job_id in broken:
        shown = [job(database, job_id) if item["id"] == job_id else item for item in shown]
    return Page(shown, len(rows) > limit)


def events(database: Database, job_id: str, *, after: str | None, limit: int) -> Page:
    """A job's events, newest first.

    Raises:
        NotFound: no such job, or `after` is not one of its events.
    """
    return _page(database, FineTuningEventRow, job_id, after, limit, _event)


def checkpoints(database: Database, job_id: str, *, after: str | None, limit: int) -> Page:
    """A job's checkpoints, newest first.

    Raises:
        NotFound: no such job, or `after` is not one of its checkpoints.
    """
    return _page(database, FineTuningCheckpointRow, job_id, after, limit, _checkpoint)


def _page(
    database: Database, table: Any, job_id: str, after: str | None, limit: int, render: Callable[[Any], dict[str, Any]]
) -> Page:
    """A page of the rows of `table` that belong to a job."""
    with database.read() as session:
        _job_row(session, job_id)
        query = select(table).where(table.job == job_id)
        if after is not None:
            query = query.where(table.number < _row_number(session, table, after, job_id))
        rows = list(session.scalars(query.order_by(table.number.desc()).limit(limit + 1)))
    return Page([render(row) for row in rows[:limit]], len(rows) > limit)


def _newest_first(session: Session, after: str | None) -> Iterator[FineTuningRow]:
    before = None if after is None else _job_row(session, after).number
    while True:
        query = select(FineTuningRow).order_by(FineTuningRow.number.desc()).limit(_AT_ONCE)
        if before is not None:
            query = query.where(FineTuningRow.number < before)
        rows = list(session.scalars(query))
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        before = rows[-1].number


def _matches(row: FineTuningRow, metadata: Mapping[str, str], bare: bool) -> bool:
    has = row.request["metadata"] or {}
    return not (bare and has) and all(has.get(key) == value for key, value in metadata.items())


def _job_row(session: Session, job_id: str) -> FineTuningRow:
    row = session.scalar(select(FineTuningRow).where(FineTuningRow.id == job_id))
    if row is None:
        raise not_found(job_id)
    return row


def _row_number(session: Session, table: Any, row_id: str, job_id: str) -> int:
    number = session.scalar(select(table.number).where(table.id == row_id, table.job == job_id))
    if number is None:
        raise NotFound(f"after is {row_id[:80]!r}, which does not belong to this job.", param="after")
    return number


def _work_has_failed(session: Session, row: FineTuningRow) -> bool:
    if row.paused or row.status not in ACTIVE:
        return False
    work = session.get(JobRow, row.job)
    return work is None or work.status == "failed"


def _job(row: FineTuningRow) -> dict[str, Any]:
    request, hyperparameters = row.request, row.hyperparameters
    method = request["method"]
    return {
        "id": row.id,
        "object": "fine_tuning.job",
        "created_at": _seconds(row.created),
        "finished_at": _seconds(row.finished),
        "estimated_finish": _seconds(row.estimated_finish),
        "model": request["model"],
        "fine_tuned_model": row.name if row.status == "succeeded" else None,
        "organization_id": row.organization,
        "status": row.status,
        "training_file": request["training_file"],
        "validation_file": request["validation_file"],
        "hyperparameters": {name: hyperparameters[name] for name in HYPERPARAMETERS},
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "seed": request["seed"],
        "result_files": row.result_files,
        "trained_tokens": row.trained_tokens,
        "error": row.error,
        "integrations": request["integrations"],
        "metadata": request["metadata"],
        "user_provided_suffix": request["suffix"],
    } | ({"parley": request["parley"]} if request.get("parley") else {})


def _event(row: FineTuningEventRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "fine_tuning.job.event",
        "created_at": _seconds(row.created),
        "level": row.level,
        "message": row.message,
        "type": row.type,
        "data": row.data,
    }


def _checkpoint(row: FineTuningCheckpointRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "object": "fine_tuning.job.checkpoint",
        "created_at": _seconds(row.created),
        "fine_tuned_model_checkpoint": row.model,
        "fine_tuning_job_id": row.job,
        "step_number": row.step,
        "metrics": row.metrics,
    }


def _seconds(moment: datetime | None) -> int | None:
    return int(moment.timestamp()) if moment else None
