"""The fine-tuned models of an OpenAI account: listed with the OpenAI SDK and registered as hosted models.

They work until OpenAI switches them off; the spec has that date.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from models.database import Database
from models.errors import Invalid, Unauthorized, Unavailable
from models.registry.registry import Registry, parse_spec
from models.registry.shutdowns import find_shutdown_date
from models.settings.settings import Settings
from models.spec import ModelSpec

if TYPE_CHECKING:
    import openai


@dataclass(frozen=True)
class FineTune:
    """A fine-tuned model of the account. `model` is its name at OpenAI, `base` the model it was fine-tuned from."""

    model: str
    base: str
    created: datetime
    shutdown_date: date | None
    job: str | None = None
    trained_tokens: int | None = None
    method: str | None = None
    registered: bool = False


def openai_fine_tunes(settings: Settings, database: Database | None = None) -> list[FineTune]:
    """The account's fine-tuned models, newest first, from `/v1/models` and `/v1/fine_tuning/jobs`.

    The list of models says which still exist; a job, if there is one, says how a model was made.

    Raises:
        Invalid: no key is set; Unauthorized: OpenAI rejects it; Unavailable: OpenAI does not answer.
    """
    import openai

    if settings.openai_api_key is None:
        raise Invalid("OPENAI_API_KEY is not set. Parley needs it to list your models at OpenAI.")
    client = openai.OpenAI(
        api_key=settings.openai_api_key.get_secret_value(), base_url=settings.openai_base_url, timeout=30
    )
    try:
        with client:
            fine_tunes = {fine_tune.model: fine_tune for fine_tune in _list_models(client)}
            for fine_tune in _list_jobs(client):
                known = fine_tunes.get(fine_tune.model)
                if known:
                    fine_tunes[fine_tune.model] = replace(
                        fine_tune, shutdown_date=known.shutdown_date or fine_tune.shutdown_date
                    )
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        raise Unauthorized(f"{settings.openai_base_url} rejects the key in OPENAI_API_KEY.") from error
    except openai.OpenAIError as error:
        raise Unavailable(f"{settings.openai_base_url} does not list its models: {_one_line(error)}") from error
    registered = _registered_models(database) if database else frozenset()
    return sorted(
        (replace(fine_tune, registered=fine_tune.model in registered) for fine_tune in fine_tunes.values()),
        key=lambda fine_tune: fine_tune.created,
        reverse=True,
    )


def register_fine_tune(
    settings: Settings, database: Database, chosen: FineTune, *, name: str | None = None
) -> ModelSpec:
    """Registers a fine-tuned model as a hosted model, under its own name by default. Clients only change `base_url`.

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


def choose(fine_tunes: Sequence[FineTune], ids: Sequence[str]) -> list[FineTune]:
    """The fine-tuned models with these ids.

    Raises:
        Invalid: the account has no model with that id.
    """
    known = {fine_tune.model: fine_tune for fine_tune in fine_tunes}
    missing = [name for name in ids if name not in known]
    if missing:
        raise Invalid(f"The account has no fine-tuned model {missing[0]!r}.", param="only")
    return [known[name] for name in ids]


def _list_models(client: "openai.OpenAI") -> list[FineTune]:
    fine_tunes = []
    for model in client.models.list():
        if model.id.startswith("ft:"):
            base = model.id.split(":")[1]
            day = find_shutdown_date(base, getattr(model, "shutdown_date", None))
            fine_tunes.append(FineTune(model.id, base, datetime.fromtimestamp(model.created, UTC), day))
    return fine_tunes


def _list_jobs(client: "openai.OpenAI") -> list[FineTune]:
    import openai

    fine_tunes = []
    try:
        jobs = list(client.fine_tuning.jobs.list(limit=100))
    except openai.NotFoundError:  # a compatible server without the fine-tuning API: its models still count
        jobs = []
    for job in jobs:
        if job.status == "succeeded" and job.fine_tuned_model:
            method = job.method.type if job.method else None
            fine_tunes.append(
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
    return fine_tunes


def _registered_models(database: Database) -> frozenset[str]:
    specs = Registry(database).list(include_candidates=True)
    return frozenset(spec.upstream.model for spec in specs if spec.upstream)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
