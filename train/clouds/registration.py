"""Registers a fine-tune in a cloud as a hosted model: its upstream, the name of its key, its shutdown date."""

from dataclasses import dataclass
from datetime import date

from models.errors import Invalid, NotFound
from models.registry.registry import Registry, parse_spec
from models.spec import ModelSpec
from train.clouds.cloud import Cloud, CloudJob


@dataclass(frozen=True)
class FineTune:
    """A fine-tuned model at its provider: its name, its base, its shutdown date and the id of its job."""

    model: str
    base: str
    shutdown_date: date | None = None
    job: str | None = None


@dataclass(frozen=True)
class Registration:
    """A registered fine-tune, and whether it is new."""

    spec: ModelSpec
    new: bool


def register_job(job: CloudJob, cloud: Cloud, registry: Registry, name: str | None = None) -> Registration:
    """Registers the model of a finished job under `name`, or under its name at the provider. It may be repeated.

    Raises:
        Invalid: the job has no model. Conflict: the name is taken by something else.
    """
    if job.model is None:
        raise Invalid(f"The job {job.id} has no model to register: its status is {job.provider_status}.", param="job")
    day = cloud.shutdown_date(job.model, job.base)
    return register_hosted(FineTune(job.model, job.base, day, job.id), cloud, registry, name)


def register_hosted(fine_tune: FineTune, cloud: Cloud, registry: Registry, name: str | None = None) -> Registration:
    """Registers a fine-tune as hosted. Its credential is the NAME of the variable with the key, never the key.

    Raises:
        Conflict: the name is taken by something else.
    """
    known = _known(registry, name or fine_tune.model, fine_tune.model, cloud.base_url)
    if known:
        return Registration(known, False)
    by_job = f" by {fine_tune.job}" if fine_tune.job else ""
    spec = parse_spec(
        id=name or fine_tune.model,
        kind="hosted",
        upstream={"base_url": cloud.base_url, "model": fine_tune.model, "credential": cloud.credential},
        job=fine_tune.job,
        shutdown_date=fine_tune.shutdown_date,
        description=f"Fine-tuned from {fine_tune.base} at {cloud.title}{by_job}",
    )
    return Registration(registry.register(spec), True)


def _known(registry: Registry, name: str, model: str, address: str) -> ModelSpec | None:
    """The registered model of this name, if it is the same model of the same upstream."""
    try:
        spec = registry.resolve(name)
    except NotFound:
        return None
    same = spec.upstream is not None and (spec.upstream.model, spec.upstream.base_url) == (model, address)
    return spec if same and spec.id == name else None
