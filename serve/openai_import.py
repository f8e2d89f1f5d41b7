"""An OpenAI account's fine-tuned models: listed with the OpenAI SDK, and registered as hosted models.

They are proxied until they are switched off; the date is known for each family, and goes into the spec.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from models.database import Database
from models.errors import Invalid, Unauthorized, Unavailable
from models.registry import Registry, parse_spec
from models.settings import Settings
from models.shutdowns import find_shutdown_date
from models.spec import ModelSpec

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class FineTune:
    """One fine-tuned model of the account. `model` is its name at OpenAI, `base` what it was tuned from."""

    model: str
    base: str
    created: datetime
    shutdown_date: date | None
    job: str | None = None
    trained_tokens: int | None = None
    method: str | None = None
    registered: bool = False


def openai_fine_tunes(settings: Settings, database: Database | None = None) -> list[FineTune]:
    """The account's fine-tuned models, newest first, from `/v1/models` and `/v1/fine_tuning/jobs` together.

    The list of models says what still answers; a job, where there is one, says how it was made.

    Raises:
        Invalid: no key is set; Unauthorized: OpenAI refuses it; Unavailable: it does not answer.
    """
    import openai

    if settings.openai_api_key is None:
        raise Invalid("OPENAI_API_KEY is not set: Parley needs it to ask OpenAI for your models.")
    client = openai.OpenAI(
        api_key=settings.openai_api_key.get_secret_value(), base_url=settings.openai_base_url, timeout=30
    )
    try:
        with client:
            found = {one.model: one for one in _from_models(client)}
            for one in _from_jobs(client):
                known = found.get(one.model)
                if known:
                    found[one.model] = replace(one, shutdown_date=known.shutdown_date or one.shutdown_date)
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise Unauthorized(f"{settings.openai_base_url} refuses the key in OPENAI_API_KEY.") from error
    except openai.OpenAIError as error:
        raise Unavailable(f"{settings.openai_base_url} does not list its models: {_line(error)}") from error
    registered = _registered(database) if database else frozenset()
    return sorted(
        (replace(one, registered=one.model in registered) for one in found.values()),
        key=lambda one: one.created,
        reverse=True,
    )


def register_fine_tune(
    settings: Settings, database: Database, chosen: FineTune, *, name: str | None = None
) -> ModelSpec:
    """Registers one as a hosted model, under its own name unless another is given. A client then changes nothing
    but `base_url`.

    Raises:
        Conflict: the name is taken.
    """
    spec = parse_spec(
        id=name or chosen.model,
        kind="hosted",
        upstream={
            "base_url": settings.openai_base_url,
            "model": chosen.model,
            "credential": "OPENAI_API_KEY",
        },
        created=chosen.created,
        shutdown_date=chosen.shutdown_date,
        description=f"Fine-tuned from {chosen.base} at OpenAI" + (f" by {chosen.job}." if chosen.job else "."),
    )
    return Registry(database).register(spec)


def choose(found: Sequence[FineTune], ids: Sequence[str]) -> list[FineTune]:
    """Those of `found` that `ids` names.

    Raises:
        Invalid: an id that the account does not have.
    """
    known = {one.model: one for one in found}
    missing = [name for name in ids if name not in known]
    if missing:
        raise Invalid(f"The account has no fine-tuned model {missing[0]!r}.", param="only")
    return [known[name] for name in ids]


def _from_models(client: "openai.OpenAI") -> list[FineTune]:
    found = []
    for model in client.models.list():
        if model.id.startswith("ft:"):
            base = model.id.split(":")[1]
            day = find_shutdown_date(base, getattr(model, "shutdown_date", None))
            found.append(FineTune(model.id, base, datetime.fromtimestamp(model.created, UTC), day))
    return found


def _from_jobs(client: "openai.OpenAI") -> list[FineTune]:
    import openai

    found = []
    try:
        jobs = list(client.fine_tuning.jobs.list(limit=100))
    except openai.NotFoundError:  # a compatible server, which need not know fine-tuning: its models count all the same
        jobs = []
    for job in jobs:
        if job.status == "succeeded" and job.fine_tuned_model:
            method = job.method.type if job.method else None
            found.append(
                FineTune(
                    model=job.fine_tuned_model,
                    base=job.model,
                    created=datetime.fromtimestamp(job.finished_at or job.created_at, UTC),
                    shutdown_date=find_shutdown_date(job.model),
                    job=job.id,
                    trained_tokens=job.trained_tokens,
                    method=method,
                )
            )
    return found


def _registered(database: Database) -> frozenset[str]:
    specs = Registry(database).list(include_candidates=True)
    return frozenset(spec.upstream.model for spec in specs if spec.upstream)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
