"""The training of a fine-tuning job, as a worker job: waits for memory, trains, and waits until the model is served.

A job may run several times (after a kill, a restart, a pause): it continues from its run's last checkpoint, and does
not publish twice. At the end its metrics are stored as OpenAI's CSV, one line per step.
"""

import asyncio
import csv
import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select

from models.chat.completer import gateway_completer
from models.database import Database, utcnow
from models.errors import Conflict, Invalid, NotFound, ParleyError
from models.files.stored_files import RESULTS, Files
from models.jobs.jobs import Job
from models.jobs.worker import JobCancelled, JobContext
from models.registry.registry import Registry
from models.settings.settings import Settings
from train.finetuning.events import EventWriter, chosen_hyperparameters
from train.finetuning.lifecycle import add_event, fail, lock_job
from train.finetuning.validation import data_file, reading_columns
from train.hyperparameters import Hyperparameters, Method
from train.publication.served_answers import wait_until_ready
from train.request import TrainingRequest
from train.tables import FineTuningEventRow
from train.worker.jobs import JobProcessFailed, run_child

_METHODS: Mapping[str, Method] = {"supervised": "sft", "dpo": "dpo"}
_HYPERPARAMETERS = {
    "n_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate_multiplier": "learning_rate_multiplier",
    "beta": "beta",
}
COLUMNS = ("step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy")


def run_fine_tuning(job: Job, context: JobContext) -> dict[str, Any] | None:
    """Trains one job's model and registers it.

    Raises:
        JobProcessFailed: the training's error, stored in the job's row too. JobCancelled: cancelled, paused, or the
            worker stops.
    """
    job_id = job.params["fine_tuning_job"]
    with context.database.write() as session:
        row = lock_job(session, job_id)
        if row.job != job.id or row.paused or row.status not in ("queued", "running"):
            return None
        base, name, request = row.base, row.name, row.request
    try:
        result = _train(context, job_id, base, name, request)
        _succeed(context, job_id, name, result)
    except JobCancelled:
        _retire_cancelled(context, job_id, name)
        raise
    except (JobProcessFailed, Invalid) as error:
        with context.database.write() as session:
            fail(session, lock_job(session, job_id), _api_error(error))
        raise
    return {"fine_tuned_model": name}


def _train(context: JobContext, job_id: str, base: str, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    folder = context.settings.runs_dir / job_id
    training = _training_request(job_id, base, name, request, folder)
    validated = bool(request["validation_file"])
    events = EventWriter(context, job_id, folder, validated=validated, method=request["method"])
    wandb = next((item["wandb"] for item in request["integrations"] if item["type"] == "wandb"), None)
    try:
        values = {"request": training.to_json(), "out": str(folder), "wandb": wandb}
        return run_child("train.finetuning.child", values, context, events)
    finally:
        with suppress(ParleyError):  # the job may be deleted by now
            events.write()


def _training_request(job_id: str, base: str, name: str, request: Mapping[str, Any], folder: Path) -> TrainingRequest:
    chosen = {_HYPERPARAMETERS[name]: value for name, value in request["asked"].items() if value != "auto"}
    return TrainingRequest(
        data=data_file(folder, "training_file"),
        validation=data_file(folder, "validation_file") if request["validation_file"] else 0.0,
        base=base,
        name=name,
        method=_METHODS[request["method"]],
        hyperparameters=Hyperparameters.from_dict(chosen | {"seed": request["seed"]}),
        columns=reading_columns(request),
        chat_template=(request.get("parley") or {}).get("chat_template"),
        job=job_id,
    )


def _succeed(context: JobContext, job_id: str, name: str, result: Mapping[str, Any]) -> None:
    """Stores the result file and marks the job as succeeded; the model is registered."""
    warning = wait_until_served(context, name) or _unlisted(context, name)
    results = store_results(context.settings, context.database, job_id)
    with context.database.write() as session:
        row = lock_job(session, job_id)
        if row.status != "running":
            raise JobCancelled(job_id)
        row.status, row.estimated_finish = "succeeded", None
        row.finished = utcnow()
        row.trained_tokens = result["tokens"]
        row.hyperparameters = chosen_hyperparameters(row.hyperparameters, result["hyperparameters"])
        row.result_files = [results]
        if warning:
            add_event(session, job_id, warning, level="warn")
        add_event(session, job_id, f"New fine-tuned model created: {name}")
        add_event(session, job_id, "The job has successfully completed")


def wait_until_served(context: JobContext, name: str) -> str | None:
    """Returns once the model answers through the gateway; otherwise a sentence that says why it does not.

    Without a gateway or an engine there is nothing to wait for.

    Raises:
        JobCancelled: the job is to stop.
    """

    seen: set[str] = set()

    def report(state: str) -> None:
        if context.cancelled:
            raise JobCancelled(name)
        if state == "starting" and state not in seen:
            context.report(message=f"waiting for {name}: its engine is starting")
        seen.add(state)

    async def poll() -> str:
        completer = gateway_completer(context.settings, name, timeout_s=10, retries=0)
        try:
            return await wait_until_ready(completer, context.settings, on_poll=report)
        finally:
            await completer.close()

    try:
        state = asyncio.run(poll())
    except ParleyError:
        return None
    if state == "failed":
        return f"{name} is registered, but its engine cannot load it: see `parley status`"
    return None if state == "ready" else f"{name} is registered, but no engine serves it yet"


def _unlisted(context: JobContext, name: str) -> str | None:
    """A warning if a model is served but not listed, because it failed its parity check."""
    spec = Registry(context.database).resolve(name)
    reason = spec.parity.refused if spec.parity else ""
    return f"{name} is served but not listed: {reason}" if spec.state == "candidate" and reason else None


def _retire_cancelled(context: JobContext, job_id: str, name: str) -> None:
    """Retires the model of a job that was cancelled while its model was being registered."""
    with context.database.read() as session:
        cancelled = lock_job(session, job_id).status == "cancelled"
    if cancelled:
        with suppress(NotFound, Conflict):
            Registry(context.database).retire(name)


def _api_error(error: ParleyError) -> dict[str, Any]:
    if error.code == "invalid_training_data":
        return {"code": "invalid_training_file", "message": str(error), "param": "training_file"}
    return {"code": error.code or "training_failed", "message": str(error), "param": None}


def store_results(settings: Settings, database: Database, job_id: str) -> str:
    """Stores the file and returns its id. Cells of metrics that were not measured are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    query = select(FineTuningEventRow.data).where(
        FineTuningEventRow.job == job_id, FineTuningEventRow.type == "metrics"
    )
    with database.read() as session:
        for data in session.scalars(query.order_by(FineTuningEventRow.step)):
            row = data or {}
            train = row.get("train_mean_token_accuracy", row.get("train_reward_accuracy", ""))
            valid = row.get("valid_mean_token_accuracy", row.get("valid_reward_accuracy", ""))
            writer.writerow([row["step"], row["train_loss"], train, row.get("valid_loss", ""), valid])
    return Files(settings, database).store("step_metrics.csv", out.getvalue().encode(), RESULTS).id
