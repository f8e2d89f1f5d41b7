"""Creates a job from a request: its base, its files, and repeated requests of the SDK.

The job's row, its first events and the worker's job are written in one transaction. The worker checks the content of
the files later (`validation`).
"""

import hashlib
import re
import secrets
import string
from datetime import timedelta
from importlib.util import find_spec

from sqlalchemy import select

from models.compatibility.engine_support import quantisation
from models.database import Database, new_ulid, utcnow
from models.errors import Invalid, NotFound
from models.files.stored_files import Files
from models.jobs.jobs import enqueue_in
from models.json_files import read_json
from models.registry.mapped_models import find_mapped_model
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import NAME_RULE, ModelSpec, is_valid_name
from train.finetuning.checkpoint_models import checkpoint_name
from train.finetuning.lifecycle import add_event
from train.finetuning.requests import JobRequest
from train.tables import FineTuningRow

CHECK, TRAIN = "fine-tune-check", "fine-tune"  # kinds of worker jobs
# The SDK waits up to ten minutes for a response before it repeats a request.
_REPEATED_WITHIN = timedelta(minutes=15)
_LETTERS = string.ascii_letters + string.digits


def create(
    settings: Settings, database: Database, request: JobRequest, *, repeated: bool = False, key: str = ""
) -> str:
    """Creates a job and returns its id.

    Args:
        repeated: the SDK has sent this request before (`x-stainless-retry-count`): then an equal request of the last 15
            minutes by the same key is the same job. key: the id of the caller's key.

    Raises:
        Invalid: the model cannot be trained here, or a file is missing or has another purpose.
    """
    digest = hashlib.sha256(f"{key}:{request.digest()}".encode()).hexdigest()
    if repeated and (existing := _find_repeated(database, digest)):
        return existing
    base = find_trainable(settings, database, request.model)
    _check_integrations(request)
    files = Files(settings, database)
    _check_file(files, request.training_file, "training_file")
    if request.validation_file:
        _check_file(files, request.validation_file, "validation_file")
    suffix = clean_suffix(request.suffix)
    job_id = f"ftjob-{new_ulid()}"
    also = f" and validation file: {request.validation_file}" if request.validation_file else ""
    with database.write() as session:
        session.add(
            FineTuningRow(
                id=job_id,
                request={
                    "model": request.model,
                    "training_file": request.training_file,
                    "validation_file": request.validation_file,
                    "suffix": request.suffix,
                    "seed": request.seed if request.seed is not None else secrets.randbelow(2**31),
                    "method": request.method,
                    "metadata": dict(request.metadata) if request.metadata is not None else None,
                    "integrations": [dict(integration) for integration in request.integrations],
                    "asked": dict(request.hyperparameters),
                    "parley": dict(request.parley),
                },
                digest=digest,
                base=base.id,
                name=model_name(request.model, settings.organization, suffix),
                organization=settings.organization,
                status="validating_files",
                job=enqueue_in(session, CHECK, {"fine_tuning_job": job_id}),
                hyperparameters=dict(request.hyperparameters),
            )
        )
        session.flush()
        add_event(session, job_id, f"Created fine-tuning job: {job_id}")
        add_event(session, job_id, f"Validating training file: {request.training_file}{also}")
    return job_id


def find_trainable(settings: Settings, database: Database, model: str) -> ModelSpec:
    """The registered model that a job for `model` starts from: by the mapping in the settings, or by its own name.

    Raises:
        Invalid: there is none, it is hosted elsewhere, or its weights are quantised.
    """
    registry, names = Registry(database), settings.fine_tuning_models
    spec = None if model in names else _find_model(registry, model)
    if (spec is None or spec.kind == "hosted") and (local := find_mapped_model(names, model)):
        spec = _find_model(registry, local)
        if spec is None:
            raise Invalid(
                f"The setting fine_tuning_models maps {model!r} to {local!r}, which is not registered here.",
                param="model",
                code="model_not_available",
            )
    if spec is None or spec.kind == "hosted":
        hint = " Its weights are elsewhere: map it to a local base in the setting fine_tuning_models." if spec else ""
        raise Invalid(
            f"Model {model} is not available for fine-tuning or does not exist.{hint}",
            param="model",
            code="model_not_available",
        )
    if spec.folder is not None and (method := quantisation(read_json(spec.folder / "config.json"))):
        raise Invalid(
            f"The weights of {spec.id!r} are quantised ({method}), so they cannot be trained: use a model with the "
            "original weights.",
            param="model",
            code="model_not_available",
        )
    return spec


def _find_model(registry: Registry, name: str) -> ModelSpec | None:
    try:
        return registry.resolve(name)
    except NotFound:
        return None


def clean_suffix(suffix: str | None) -> str:
    """A suffix as part of a name: letters, digits, `-`, `_` and single dots; other characters become a dash.

    Raises:
        Invalid: it has no letter or digit.
    """
    if suffix is None:
        return ""
    clean = re.sub(r"[^A-Za-z0-9._-]+|\.{2,}", "-", suffix).strip("-.")
    if not clean:
        raise Invalid(f"suffix {suffix!r} has no letter or digit: give it one.", param="suffix")
    return clean


def model_name(requested: str, organization: str, suffix: str) -> str:
    """A new name for a result, `ft:<base>:<organization>:<suffix>:<id>`.

    The base part is the name that the client requested, not the local base that it may be mapped to, so that a program
    finds its own `gpt-4o-mini` in the result. A model trained from an `ft:…` keeps the base in its name.

    Raises:
        Invalid: the name would not be valid (over 255 characters).
    """
    base = requested.split(":")[1] if requested.startswith("ft:") and requested.count(":") >= 2 else requested
    number = "".join(secrets.choice(_LETTERS) for _ in range(8))
    name = f"ft:{base}:{organization}:{suffix}:{number}"
    if not is_valid_name(checkpoint_name(name, 10**12)):
        raise Invalid(f"{name!r} is not a valid model name: {NAME_RULE}.", param="model")
    return name


def _find_repeated(database: Database, digest: str) -> str | None:
    query = (
        select(FineTuningRow.id)
        .where(
            FineTuningRow.digest == digest,
            FineTuningRow.created > utcnow() - _REPEATED_WITHIN,
            # After a cancel the same request means a new job.
            FineTuningRow.status != "cancelled",
        )
        .order_by(FineTuningRow.number.desc())
        .limit(1)
    )
    with database.read() as session:
        return session.scalar(query)


def _check_integrations(request: JobRequest) -> None:
    for integration in request.integrations:
        if find_spec(integration["type"]) is None:
            raise Invalid(
                f"{integration['type']} is not installed on the server: `pip install {integration['type']}`, or leave "
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
