"""A fine-tune in a cloud as a hosted model here: its upstream, the name of its key, its shutdown date. No weights."""

from dataclasses import dataclass
from datetime import date

from models.errors import Invalid, NotFound
from models.registry import Registry, parse_spec
from models.spec import ModelSpec
from train.clouds.cloud import Cloud, CloudJob


@dataclass(frozen=True)
class Registered:
    """What a fine-tune is called here, and whether that is new."""

    spec: ModelSpec
    new: bool


def register_job(job: CloudJob, cloud: Cloud, registry: Registry, name: str | None = None) -> Registered:
    """Registers a finished job's model under `name`, or under its name at the provider. Twice is once.

    Raises:
        Invalid: the job has no model. Conflict: the name is taken by something else.
    """
    if job.model is None:
        raise Invalid(f"The job {job.id} is {job.said}: it has no model to register.", param="job")
    day = cloud.shutdown_date(job.model, job.base)
    return register_hosted(job.model, job.base, day, cloud, registry, name=name, job=job)


def register_hosted(
    model: str,
    base: str,
    day: date | None,
    cloud: Cloud,
    registry: Registry,
    *,
    name: str | None = None,
    job: CloudJob | None = None,
) -> Registered:
    """Registers a provider's model as hosted. The credential is the NAME of the variable with the key, never the key.

    Raises:
        Conflict: the name is taken by something else.
    """
    known = _known(registry, name or model, model, cloud.answers_at)
    if known:
        return Registered(known, False)
    made = f"Fine-tuned from {base} at {cloud.title}" + (f" by {job.id}" if job else "")
    spec = parse_spec(
        id=name or model,
        kind="hosted",
        upstream={"base_url": cloud.answers_at, "model": model, "credential": cloud.credential},
        job=job.id if job else None,
        shutdown_date=day,
        description=made,
    )
    return Registered(registry.register(spec), True)


def _known(registry: Registry, name: str, model: str, address: str) -> ModelSpec | None:
    """The model of that very name, where it is the same upstream's already."""
    try:
        spec = registry.resolve(name)
    except NotFound:
        return None
    same = spec.upstream is not None and (spec.upstream.model, spec.upstream.base_url) == (model, address)
    return spec if same and spec.id == name else None
