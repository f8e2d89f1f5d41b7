"""The worker's job "batch": checks the input, sends every row to the gateway, and writes the results.

Each answer is in a journal on disk before it counts. A restarted job continues after the rows that it contains, so that
no row is lost or appears twice. The files and the last status are stored in one transaction.
"""

import asyncio
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import utcnow
from models.errors import Conflict, NoSpace, NotFound, ParleyError, Unauthorized
from models.files.stored_files import FileAccess, Files
from models.jobs.jobs import Job, get_job
from models.jobs.worker import JobCancelled, JobContext
from serve.batches.batches import FINAL, batch_error, lifetime_of, set_status
from serve.batches.credentials import BatchToken, batch_token
from serve.batches.input_file import BatchRequest, CheckedInput, check_input, read_requests
from serve.batches.results import answer_line, write_results
from serve.batches.row_requests import RowRequests
from serve.bulk.concurrency import AdaptiveConcurrency
from serve.bulk.journal import Journal, syncing
from serve.bulk.request_pool import run_requests
from serve.bulk.rows import tokens_of
from serve.tables import BatchRow

_WATCH_S, _REPORT_S = 0.5, 2.0
_TOKEN_SLACK = timedelta(minutes=10)
_FULL_DISK_PAUSE_S = 10.0
_log = logging.getLogger("parley.worker")


@dataclass
class _Run:
    """A batch in progress. `stop`: the last status, once it is decided before every row is answered."""

    row: BatchRow
    job_id: str
    context: JobContext
    folder: Path
    checked: CheckedInput = field(default_factory=CheckedInput)
    stop: str = ""
    error: dict[str, Any] | None = None
    notice: str = ""
    notice_at: float = 0.0

    @property
    def input(self) -> Path:
        """The batch's own link to its input file, which stays if the client deletes that."""
        return self.folder / "input.jsonl"

    @property
    def journal(self) -> Path:
        """The journal's path, without its suffix."""
        return self.folder / "answers.jsonl"

    def note(self, text: str) -> None:
        """Why rows have to wait, for the job's message."""
        self.notice, self.notice_at = text, time.monotonic()


def run_batch_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "batch"; params: `batch`, its id."""
    batch_id = str(job.params["batch"])
    with context.database.read() as session:
        row = session.scalar(select(BatchRow).where(BatchRow.id == batch_id))
    if row is None:
        raise NotFound(f"There is no batch {batch_id}.")
    folder = context.settings.batches_dir / batch_id
    run = _Run(row, job.id, context, folder)
    if row.status not in FINAL:
        folder.mkdir(parents=True, exist_ok=True)
        _run(run)
    shutil.rmtree(folder, ignore_errors=True)
    return {"batch": batch_id}


def _run(run: _Run) -> None:
    if not _link_input(run):
        _fail(run, [batch_error("file_not_found", "The input file was deleted.", param="input_file_id")])
        return
    endpoint = run.row.request["endpoint"]
    max_line = int(run.context.settings.max_body_mib * 2**20)
    run.checked = check_input(run.input, endpoint, max_line)
    if errors := run.checked.all_errors():
        _fail(run, errors)
        return
    with _open_journal(run) as journal:
        try:
            asyncio.run(_answer_all(run, journal))
        except Unauthorized as error:
            run.stop = "failed"
            text = f"The key that created the batch is not valid any more: {error.message}"
            run.error = batch_error("invalid_api_key", text)
        if run.stop == "interrupted":
            raise JobCancelled(run.job_id)
        if run.stop == "model_not_found":
            message = f"The model {run.checked.model!r} does not exist or you do not have access to it."
            _fail(run, [batch_error("model_not_found", message, run.checked.lines[0], "body.model")])
            return
        if not run.stop and len(journal.stored) < run.checked.rows:
            raise ParleyError(f"Only {len(journal.stored):,} of {run.checked.rows:,} requests were answered.")
        _finish(run, journal)


def _link_input(run: _Run) -> bool:
    """Makes the batch's own link to its input. False if the file is gone."""
    if run.input.exists():
        return True
    try:
        source = Files(run.context.settings, run.context.database).get(run.row.request["input_file_id"]).path
        try:
            os.link(source, run.input)
        except FileNotFoundError:
            return False
        except OSError:  # the file system has no links
            pending = run.input.with_suffix(".new")
            shutil.copyfile(source, pending)
            pending.replace(run.input)
    except (NotFound, FileNotFoundError):
        return False
    return True


def _open_journal(run: _Run) -> Journal:
    """The journal, as soon as no other worker writes it: one that has lost the job's lease may still stop."""
    while True:
        try:
            return Journal(run.journal, run.row.id, resume=True)
        except Conflict:
            if run.context.cancelled:
                raise JobCancelled(run.job_id) from None
            time.sleep(_WATCH_S)


async def _answer_all(run: _Run, journal: Journal) -> None:
    """Sends the rows that the journal lacks, until all are answered or `run.stop` is set."""
    concurrency = AdaptiveConcurrency()
    row, path = run.row, run.row.request["endpoint"].removeprefix("/v1")
    text = batch_token(run.context.settings.home, BatchToken(row.id, row.key_id, row.expires + _TOKEN_SLACK))
    began, tokens = time.monotonic(), 0

    async with RowRequests(run.context.settings, text, concurrency, run.note) as requests, syncing(journal):

        async def work(request: BatchRequest) -> None:
            nonlocal tokens
            answer = await requests.post(path, request.body)
            used = tokens_of(answer.body)
            tokens += used
            concurrency.answered(used)
            await _store(run, journal, request, answer_line(request, answer), failed=not answer.succeeded)

        async def send_all() -> None:
            # A model that is removed later is an error of each row that it has not answered.
            if not journal.stored and not await requests.find_model(str(run.checked.model)):
                run.stop = "model_not_found"
                return
            await asyncio.to_thread(_begin, run)
            pending = read_requests(run.input, run.checked, frozenset(journal.stored))
            if len(journal.stored) < run.checked.rows:
                await run_requests(pending, work, concurrency)

        def message() -> str:
            done = f"{len(journal.stored):,} of {run.checked.rows:,} answered"
            if time.monotonic() - run.notice_at < 2 * _REPORT_S and run.notice:
                return f"{done}; {run.notice}"[:500]
            return f"{done}, {tokens / (time.monotonic() - began or 1):,.0f} tokens/s"

        await _until_done_or_stopped(run, journal, send_all, message)


async def _until_done_or_stopped(
    run: _Run, journal: Journal, send_all: Callable[[], Any], message: Callable[[], str]
) -> None:
    """Runs `send_all` beside the watch for cancellation and expiry, and reports the progress."""
    sending = asyncio.ensure_future(send_all())
    reported = time.monotonic()
    try:
        while not sending.done():
            await asyncio.wait({sending}, timeout=_WATCH_S)
            if sending.done():
                break
            due = time.monotonic() - reported >= _REPORT_S
            progress = (_counts(run, journal), message()) if due else None
            if stop := await asyncio.to_thread(_watch, run, progress):
                run.stop = stop
                return
            if due:
                reported = time.monotonic()
        await sending
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


def _watch(run: _Run, progress: tuple[dict[str, int], str] | None) -> str:
    """Why the batch must stop now; empty if it goes on. Stores the progress, if given: counts and message."""
    context = run.context
    try:
        if context.cancelled:
            ours = not context.interrupted and get_job(context.database, run.job_id).status == "cancelled"
            return "cancelled" if ours else "interrupted"
        if utcnow() >= run.row.expires:
            return "expired"
        if progress is None:
            with context.database.read() as session:
                status = session.scalar(select(BatchRow.status).where(BatchRow.id == run.row.id))
        else:
            counts, message = progress
            context.beat((counts["completed"] + counts["failed"]) / (run.checked.rows or 1), message)
            with context.database.write() as session:
                row = _locked_row(session, run.row.id)
                row.counts = counts
                status = row.status
    except ParleyError as error:
        _log.warning("the progress of %s cannot be stored yet: %s", run.row.id, error)
        return ""
    return "cancelled" if status == "cancelling" else ""


async def _store(run: _Run, journal: Journal, request: BatchRequest, line: dict[str, Any], *, failed: bool) -> None:
    """Stores an answer, and waits while the disk is full."""
    while True:
        try:
            journal.add(request.row, line, failed=failed)
            return
        except NoSpace as error:
            run.note(str(error))
            await asyncio.sleep(_FULL_DISK_PAUSE_S)


def _begin(run: _Run) -> None:
    """Marks the batch as in progress, unless it was so before or is being cancelled."""

    def begin(_: Session, row: BatchRow) -> None:
        row.outcome = row.outcome | {"model": run.checked.model}
        row.counts = {"completed": 0, "failed": 0} | row.counts | {"total": run.checked.rows}
        if row.status == "validating":
            set_status(row, "in_progress")

    _change(run, begin)


def _counts(run: _Run, journal: Journal) -> dict[str, int]:
    failed = len(journal.failed)
    return {"total": run.checked.rows, "completed": len(journal.stored) - failed, "failed": failed}


def _fail(run: _Run, errors: list[dict[str, Any]]) -> None:
    """Ends a batch that was not run."""

    def fail(_: Session, row: BatchRow) -> None:
        row.outcome = row.outcome | {"errors": errors}
        row.counts = row.counts | {"total": run.checked.rows}
        set_status(row, "cancelled" if row.status == "cancelling" else "failed")

    _change(run, fail)


def _finish(run: _Run, journal: Journal) -> None:
    """Writes the results, and stores them together with the batch's last status."""
    status = _final_status(run)
    files = Files(run.context.settings, run.context.database, FileAccess(run.row.key_id))

    def missing() -> list[str]:
        left = read_requests(run.input, run.checked, frozenset(journal.stored))
        return [request.custom_id for request in left]

    results = write_results(
        files, journal, run.checked.rows, missing, name=run.row.id, status=status,
        lifetime=lifetime_of(run.row.request),
    )  # fmt: skip

    def finish(session: Session, row: BatchRow) -> None:
        if row.status in FINAL:
            return
        row.outcome = row.outcome | {
            "model": run.checked.model,
            "output_file_id": results.output.id if results.output else None,
            "error_file_id": results.errors.id if results.errors else None,
            "usage": results.usage.to_json(),
            "errors": [run.error] if run.error else None,
        }
        row.counts = {"total": run.checked.rows, "completed": results.completed, "failed": results.failed}
        set_status(row, status)
        session.add_all(results.rows)

    _change(run, finish)


def _final_status(run: _Run) -> str:
    """The last status. A batch that is cancelled in this moment is cancelled; one that is finalizing cannot be."""
    if run.stop:
        return run.stop
    status = "completed"

    def finalize(_: Session, row: BatchRow) -> None:
        nonlocal status
        if row.status == "cancelling":
            status = "cancelled"
        elif row.status != "finalizing":
            set_status(row, "finalizing")

    _change(run, finalize)
    return status


def _change(run: _Run, change: Callable[[Session, BatchRow], None]) -> None:
    """Changes the batch in one transaction, repeated while the database does not answer."""

    def store() -> None:
        with run.context.database.write() as session:
            change(session, _locked_row(session, run.row.id))

    run.context.store_with_retries(store)


def _locked_row(session: Session, batch_id: str) -> BatchRow:
    return session.scalars(select(BatchRow).where(BatchRow.id == batch_id).with_for_update()).one()
