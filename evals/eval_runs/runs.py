"""Creates, lists, cancels and deletes runs of evals; returns the API's objects. A run's status is that of its job."""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from evals.api_tables import EvalItemRow, EvalRow, EvalRunRow
from evals.eval_runs import stored_completions
from evals.eval_runs.evals import Page, PageRange, eval_row, seconds
from evals.eval_runs.requests import RunCreate
from evals.graders.grading import models_of
from evals.served_models import find_models
from evals.tables import EvaluationRow, ResultRow
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.files.stored_files import Files
from models.http.repeated_requests import Caller, find_repeated, request_digest
from models.jobs.jobs import cancel_in, enqueue_in
from models.settings.settings import Settings
from models.tables import JobRow

# More than this is stored as a file, so that lists and polls of runs stay small.
MAX_ROWS, MAX_BYTES = 100, 64 * 1024
EVAL_RUN = "eval-run"  # the kind of the worker's job
# A job's status → the status of its run in the API.
STATUS = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "canceled",
}
ACTIVE = ("queued", "running")


def create_run(
    settings: Settings, database: Database, eval_id: str, request: RunCreate, caller: Caller
) -> dict[str, Any]:
    """Creates a run and its job in one transaction. For a repeated request, returns the run that the first one created.

    Raises:
        NotFound: there is no such eval, file or model. Invalid: the data source cannot be used here.
    """
    data_source = request.data_source.model_dump(mode="json", exclude_unset=True)
    with database.read() as session:
        criteria = eval_row(session, eval_id).content["testing_criteria"]
    _check_source(settings, database, data_source, criteria)
    digest = request_digest(caller, [eval_id, request.model_dump(mode="json")])
    if caller.repeated and (row := find_repeated(database, EvalRunRow, digest)):
        return get_run(settings, database, eval_id, row.id)
    run_id, now = f"evalrun_{new_ulid()}", utcnow()
    own_file = _store_rows(database, Files(settings, database), run_id, data_source)
    with database.write() as session:
        eval_row(session, eval_id)
        row = EvalRunRow(
            id=run_id,
            eval_id=eval_id,
            name=request.name or f"Run of {now:%Y-%m-%d %H:%M}",
            model=data_source.get("model") or "",
            content={"data_source": data_source, "metadata": request.metadata, "own_file": own_file},
            digest=digest,
            job=enqueue_in(session, EVAL_RUN, {"eval_run": run_id}),
            counts={},
            created=now,
        )
        session.add(row)
        session.flush()
        return _run_json(settings, row, session.get(JobRow, row.job))


def get_run(settings: Settings, database: Database, eval_id: str, run_id: str) -> dict[str, Any]:
    """One run of an eval.

    Raises:
        NotFound: there is none with that id.
    """
    with database.read() as session:
        row = run_row(session, eval_id, run_id)
        return _run_json(settings, row, session.get(JobRow, row.job) if row.job else None)


def list_runs(settings: Settings, database: Database, eval_id: str, page: PageRange, status: str | None = None) -> Page:
    """Runs of an eval in the order of their creation; with `status`, only those that have it.

    Raises:
        NotFound: there is no such eval, or `page.after` is not one of its runs.
    """
    query = (
        select(EvalRunRow, JobRow).outerjoin(JobRow, JobRow.id == EvalRunRow.job).where(EvalRunRow.eval_id == eval_id)
    )
    if status is not None:
        own = next(name for name, public in STATUS.items() if public == status)
        query = query.where(func.coalesce(JobRow.status, EvalRunRow.status) == own)
    with database.read() as session:
        eval_row(session, eval_id)
        if page.after is not None:
            last = run_row(session, eval_id, page.after, "after").number
            query = query.where(EvalRunRow.number < last if page.descending else EvalRunRow.number > last)
        order = EvalRunRow.number.desc() if page.descending else EvalRunRow.number.asc()
        rows = session.execute(query.order_by(order).limit(page.limit + 1)).all()
    return Page([_run_json(settings, row, job) for row, job in rows[: page.limit]], len(rows) > page.limit)


def cancel_run(
    settings: Settings, database: Database, eval_id: str, run_id: str, *, repeated: bool = False
) -> dict[str, Any]:
    """Cancels a run; its items so far stay.

    Raises:
        NotFound: there is none with that id. Invalid: it has ended.
    """
    with database.write() as session:
        row = run_row(session, eval_id, run_id)
        job = session.get(JobRow, row.job, with_for_update=True) if row.job else None
        status = _status(row, job)
        if status not in ("queued", "in_progress") and not (repeated and status == "canceled"):
            raise Invalid(
                f"Run {run_id} cannot be cancelled, because it has ended: its status is {status}.",
                code="invalid_run_status",
            )
        if job is not None:
            cancel_in(session, job.id)
        return _run_json(settings, row, job)


def delete_run(settings: Settings, database: Database, eval_id: str, run_id: str) -> None:
    """Deletes a run with its items and its evaluation, and cancels it if it has not ended. Answers stay cached.

    Raises:
        NotFound: there is none with that id.
    """
    with database.write() as session:
        row = run_row(session, eval_id, run_id)
        own_file = _delete_row(session, row)
    _delete_file(Files(settings, database), own_file)


def delete_eval(settings: Settings, database: Database, eval_id: str) -> None:
    """Deletes an eval with all its runs.

    Raises:
        NotFound: there is none with that id.
    """
    with database.write() as session:
        row = eval_row(session, eval_id)
        runs = session.scalars(select(EvalRunRow).where(EvalRunRow.eval_id == eval_id))
        own_files = [_delete_row(session, run) for run in list(runs)]
        session.execute(delete(EvalRow).where(EvalRow.number == row.number))
    for own_file in own_files:
        _delete_file(Files(settings, database), own_file)


def run_row(session: Session, eval_id: str, run_id: str, param: str = "run_id") -> EvalRunRow:
    """A run's row.

    Raises:
        NotFound: the eval has no run with that id.
    """
    row = session.scalar(select(EvalRunRow).where(EvalRunRow.id == run_id, EvalRunRow.eval_id == eval_id))
    if row is None:
        raise NotFound(f"The eval {eval_id[:80]!r} has no run {run_id[:80]!r}.", code="not_found", param=param)
    return row


def _check_source(
    settings: Settings, database: Database, data_source: Mapping[str, Any], criteria: list[dict[str, Any]]
) -> None:
    source = data_source["source"]
    if source["type"] == "file_id":
        Files(settings, database).get(source["id"])
    models = [model for grader in criteria for model in models_of(grader)]
    # What is stored has answers; if a model is set, it answers the requests again.
    if data_source["type"] != "jsonl" and (source["type"] not in stored_completions.KINDS or data_source.get("model")):
        for name in ("model", "input_messages"):
            if not data_source.get(name):
                raise Invalid(f"A data source of type {data_source['type']} needs {name}.", param=f"data_source.{name}")
        models.append(data_source["model"])
    find_models(settings, database, *models)


def _store_rows(database: Database, files: Files, run_id: str, data_source: dict[str, Any]) -> str | None:
    """Writes what was stored, or many rows, to a file and returns its id. In place of many rows, `data_source` then has
    the file's id. None if there are few rows, or the client uploaded a file.
    """
    source = data_source["source"]
    if source["type"] in stored_completions.KINDS:
        # A copy, so that the run can continue if the completions are deleted meanwhile.
        rows = stored_completions.stored_rows(database, source)
        return _store_lines(files, run_id, [json.dumps(row).encode() for row in rows])
    if source["type"] != "file_content":
        return None
    lines = [json.dumps(row).encode() for row in source["content"]]
    if len(lines) <= MAX_ROWS and sum(map(len, lines)) <= MAX_BYTES:
        return None
    own_file = _store_lines(files, run_id, lines)
    data_source["source"] = {"type": "file_id", "id": own_file}
    return own_file


def _store_lines(files: Files, run_id: str, lines: list[bytes]) -> str:
    return files.store(f"{run_id}.jsonl", b"\n".join(lines) + b"\n", "evals").id


def _delete_row(session: Session, row: EvalRunRow) -> str | None:
    """Deletes a run's rows; returns the id of the file that was created for it."""
    if row.job and session.get(JobRow, row.job) is not None:
        cancel_in(session, row.job)
    session.execute(delete(EvalItemRow).where(EvalItemRow.run_id == row.id))
    session.execute(delete(EvalRunRow).where(EvalRunRow.number == row.number))
    if row.evaluation_id:
        session.execute(delete(ResultRow).where(ResultRow.evaluation_id == row.evaluation_id))
        session.execute(delete(EvaluationRow).where(EvaluationRow.id == row.evaluation_id))
    return row.content.get("own_file")


def _delete_file(files: Files, file_id: str | None) -> None:
    if file_id is None:
        return
    try:
        files.delete(file_id)
    except NotFound:  # the client has deleted it
        return


def _status(row: EvalRunRow, job: JobRow | None) -> str:
    return STATUS[job.status if job is not None else row.status or "failed"]


def _run_json(settings: Settings, row: EvalRunRow, job: JobRow | None) -> dict[str, Any]:
    status, counts = _status(row, job), row.counts
    items = counts.get("items", {})
    failure = (job.error if job is not None else None) or counts.get("error") or "The run failed."
    return {
        "id": row.id,
        "object": "eval.run",
        "eval_id": row.eval_id,
        "created_at": seconds(row.created),
        "name": row.name,
        "model": row.model,
        "status": status,
        "report_url": settings.page_url,
        "data_source": row.content["data_source"],
        "error": {"code": "run_failed", "message": failure} if status == "failed" else None,
        "metadata": row.content["metadata"] or {},
        "result_counts": {name: items.get(name, 0) for name in ("total", "errored", "failed", "passed")},
        "per_model_usage": [_usage_json(model, *usage) for model, usage in counts.get("usage", {}).items()],
        "per_testing_criteria_results": [
            {"testing_criteria": name, "passed": passed, "failed": failed}
            for name, (passed, failed) in counts.get("criteria", {}).items()
        ],
    }


def _usage_json(model: str, calls: int, prompt: int, completion: int) -> dict[str, Any]:
    return {
        "model_name": model,
        "invocation_count": calls,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": 0,
        "total_tokens": prompt + completion,
    }


def is_active(job: JobRow | None) -> bool:
    """Whether a run's job may still add items."""
    return job is not None and job.status in ACTIVE
