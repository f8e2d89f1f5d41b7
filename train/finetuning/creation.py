"""From a request to a job: the base that a name stands for, the files, and the SDK's repeats of one request.

It writes the job's row, its first events and the work for the worker in one transaction. What is in the files is
looked at later, by the worker (`validating`).
"""

import hashlib
import secrets
from datetime import timedelta
from importlib.util import find_spec

from sqlalchemy import select

from models.database import Database, utcnow
from models.errors import Invalid, NotFound
from models.files import Files
from models.jobs import enqueue_in
from models.registry import Registry
from models.settings import Settings
from models.spec import ModelSpec
from train.finetuning import names
from train.finetuning.lifecycle import tell
from train.finetuning.requests import Asked
from train.tables import FineTuningRow

CHECK, TRAIN = "fine-tune-check", "fine-tune"  # the worker's kinds of jobs
# The SDK waits up to ten minutes for an answer before it repeats a request.
_REPEATED_WITHIN = timedelta(minutes=15)


def create(settings: Settings, database: Database, asked: Asked, *, repeated: bool = False, key: str = "") -> str:
    """Creates a job and returns its id.

    Args:
        repeated: the SDK says that it has sent this before (`x-stainless-retry-count`): the same request of the last
            quarter of an hour, by the same key, is then the job that it wants. key: the id of the key that asks.

    Raises:
        Invalid: the model cannot be trained here, or a file is not there or for something else.
    """
    digest = hashlib.sha256(f"{key}:{asked.digest()}".encode()).hexdigest()
    if repeated and (first := _sent_before(database, digest)):
        return first
    base = find_trainable(settings, database, asked.model)
    _check_integrations(asked)
    files = Files(settings, database)
    _check_file(files, asked.training_file, "training_file")
    if asked.validation_file:
        _check_file(files, asked.validation_file, "validation_file")
    suffix = names.clean_suffix(asked.suffix)
    job_id = names.job_id()
    also = f" and validation file: {asked.validation_file}" if asked.validation_file else ""
    with database.write() as session:
        session.add(
            FineTuningRow(
                id=job_id,
                request={
                    "model": asked.model,
                    "training_file": asked.training_file,
                    "validation_file": asked.validation_file,
                    "suffix": asked.suffix,
                    "seed": asked.seed if asked.seed is not None else secrets.randbelow(2**31),
                    "method": asked.method,
                    "metadata": dict(asked.metadata) if asked.metadata is not None else None,
                    "integrations": [dict(one) for one in asked.integrations],
                    "asked": dict(asked.hyperparameters),
                },
                digest=digest,
                base=base.id,
                name=names.model_name(asked.model, settings.organization, suffix),
                organization=settings.organization,
                status="validating_files",
                job=enqueue_in(session, CHECK, {"fine_tuning_job": job_id}),
                hyperparameters=dict(asked.hyperparameters),
            )
        )
        session.flush()
        tell(session, job_id, f"Created fine-tuning job: {job_id}")
        tell(session, job_id, f"Validating training file: {asked.training_file}{also}")
    return job_id


def find_trainable(settings: Settings, database: Database, model: str) -> ModelSpec:
    """The registered model whose weights a job for `model` starts from: by the settings' mapping, or by its own name.

    Raises:
        Invalid: there is none, or its weights are elsewhere.
    """
    local = settings.fine_tuning_models.get(model, model)
    try:
        spec = Registry(database).resolve(local)
    except NotFound:
        if local != model:
            raise Invalid(
                f"The setting fine_tuning_models maps {model!r} to {local!r}, which is no registered model here.",
                param="model",
                code="model_not_available",
            ) from None
        spec = None
    if spec is None or spec.kind == "hosted":
        why = " Its weights are elsewhere: map it to a local base in the setting fine_tuning_models." if spec else ""
        raise Invalid(
            f"Model {model} is not available for fine-tuning or does not exist.{why}",
            param="model",
            code="model_not_available",
        )
    return spec


def _sent_before(database: Database, digest: str) -> str | None:
    query = (
        select(FineTuningRow.id)
        .where(
            FineTuningRow.digest == digest,
            FineTuningRow.created > utcnow() - _REPEATED_WITHIN,
            # Who has cancelled a job had its answer: the same request once more means another job.
            FineTuningRow.status != "cancelled",
        )
        .order_by(FineTuningRow.number.desc())
        .limit(1)
    )
    with database.read() as session:
        return session.scalar(query)


def _check_integrations(asked: Asked) -> None:
    for one in asked.integrations:
        if find_spec(one["type"]) is None:
            raise Invalid(
                f"The tracker {one['type']} is not installed where Parley runs: `pip install {one['type']}`, or leave "
                "the integration out.",
                param="integrations",
            )


def _check_file(files: Files, file_id: str, param: str) -> None:
    if file_id.startswith("upload_"):
        raise Invalid(
            f"File {file_id!r} is still being uploaded and is not ready to be used for fine-tuning: complete the "
            "upload, and give the id of its file.",
            param=param,
        )
    try:
        file = files.get(file_id)
    except NotFound:
        raise Invalid(f"invalid {param}: {file_id}", param=param) from None
    if file.purpose != "fine-tune":
        raise Invalid(
            f"File {file_id!r} was uploaded for {file.purpose!r}: upload it with the purpose 'fine-tune'.", param=param
        )
