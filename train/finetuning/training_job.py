"""The training of one fine-tuning job, as the worker's job: waits for memory, trains, and waits until it is served.

A job may come here several times: after a kill, a restart, a pause. It goes on from its run's last checkpoint, and
what was published already is not made again.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from models.completer import gateway_completer
from models.database import utcnow
from models.errors import Conflict, Invalid, NotFound, ParleyError
from models.jobs import Job
from models.registry import Registry
from models.worker import JobCancelled, JobContext
from train.finetuning.events import Telling, numbers
from train.finetuning.lifecycle import fail, locked, tell
from train.finetuning.result_file import store_results
from train.finetuning.validation import data_file
from train.hyperparameters import Hyperparameters, Method
from train.publication.readiness import wait_until_ready
from train.request import TrainingRequest
from train.worker.jobs import TrainingFailed, run_child

_METHODS: Mapping[str, Method] = {"supervised": "sft", "dpo": "dpo"}
_HYPERPARAMETERS = {
    "n_epochs": "epochs",
    "batch_size": "batch_size",
    "learning_rate_multiplier": "learning_rate_multiplier",
    "beta": "beta",
}


def run_fine_tuning(job: Job, context: JobContext) -> dict[str, Any] | None:
    """Trains one job's model and registers it.

    Raises:
        TrainingFailed: what the training said; the job's row says so too. JobCancelled: cancelled, paused, or the
            worker stops.
    """
    job_id = job.params["fine_tuning_job"]
    with context.database.write() as session:
        row = locked(session, job_id)
        if row.job != job.id or row.paused or row.status not in ("queued", "running"):
            return None
        base, name, request = row.base, row.name, row.request
    try:
        result = _train(context, job_id, base, name, request)
        _succeed(context, job_id, name, result)
    except JobCancelled:
        _take_back(context, job_id, name)
        raise
    except (TrainingFailed, Invalid) as error:
        with context.database.write() as session:
            fail(session, locked(session, job_id), _told(error))
        raise
    return {"fine_tuned_model": name}


def _train(context: JobContext, job_id: str, base: str, name: str, request: Mapping[str, Any]) -> dict[str, Any]:
    folder = context.settings.runs_dir / job_id
    training = _training_request(job_id, base, name, request, folder)
    validated = bool(request["validation_file"])
    telling = Telling(context, job_id, folder, validated=validated, method=request["method"])
    wandb = next((one["wandb"] for one in request["integrations"] if one["type"] == "wandb"), None)
    try:
        values = {"request": training.as_json(), "out": str(folder), "wandb": wandb}
        return run_child("train.finetuning.child", values, context, telling)
    finally:
        with suppress(ParleyError):  # the job may be gone by now: what it told stays
            telling.write()


def _training_request(job_id: str, base: str, name: str, request: Mapping[str, Any], folder: Path) -> TrainingRequest:
    chosen = {_HYPERPARAMETERS[name]: value for name, value in request["asked"].items() if value != "auto"}
    return TrainingRequest(
        data=data_file(folder, "training_file"),
        validation=data_file(folder, "validation_file") if request["validation_file"] else 0.0,
        base=base,
        name=name,
        method=_METHODS[request["method"]],
        hyperparameters=Hyperparameters.from_dict(chosen | {"seed": request["seed"]}),
        job=job_id,
    )


def _succeed(context: JobContext, job_id: str, name: str, result: Mapping[str, Any]) -> None:
    """The model is registered: its result file, then the word."""
    warning = wait_until_served(context, name) or _unlisted(context, name)
    results = store_results(context.settings, context.database, job_id)
    with context.database.write() as session:
        row = locked(session, job_id)
        if row.status != "running":
            raise JobCancelled(job_id)
        row.status, row.estimated_finish = "succeeded", None
        row.finished = utcnow()
        row.trained_tokens = result["tokens"]
        row.hyperparameters = numbers(row.hyperparameters, result["hyperparameters"])
        row.result_files = [results]
        if warning:
            tell(session, job_id, warning, level="warn")
        tell(session, job_id, f"New fine-tuned model created: {name}")
        tell(session, job_id, "The job has successfully completed")


def wait_until_served(context: JobContext, name: str) -> str | None:
    """Returns once the model answers through the gateway; otherwise a sentence that says why it does not.

    Without a gateway or an engine there is nothing to wait for.

    Raises:
        JobCancelled: the job is to stop.
    """

    def check_cancelled() -> None:
        if context.cancelled:
            raise JobCancelled(name)

    async def poll() -> str:
        completer = gateway_completer(context.settings, name, timeout_s=10, retries=0)
        try:
            return await wait_until_ready(completer, context.settings, on_poll=check_cancelled)
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
    """Why a model that is served is not in the list of models: what it says is not what its training made."""
    spec = Registry(context.database).resolve(name)
    why = spec.parity.refused if spec.parity else ""
    return f"{name} is served, and not listed: {why}" if spec.state == "candidate" and why else None


def _take_back(context: JobContext, job_id: str, name: str) -> None:
    """A job that was cancelled while its model was being registered leaves none behind."""
    with context.database.read() as session:
        cancelled = locked(session, job_id).status == "cancelled"
    if cancelled:
        with suppress(NotFound, Conflict):
            Registry(context.database).retire(name)


def _told(error: ParleyError) -> dict[str, Any]:
    if error.code == "invalid_training_data":
        return {"code": "invalid_training_file", "message": str(error), "param": "training_file"}
    return {"code": error.code or "training_failed", "message": str(error), "param": None}
