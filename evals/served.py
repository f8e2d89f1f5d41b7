"""An evaluation over served models, through the gateway, as any client asks: completers, embeddings, what to note."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evals.evaluations import Evaluated, run_task
from evals.runner import CONCURRENCY, Progress
from evals.scorers_named import Tools, named_scorer
from evals.scorers_overlap import Embed
from evals.tasks import Task
from models.completer import GatewayCompleter, gateway_completer, told
from models.database import Database
from models.errors import Unauthorized, Unavailable
from models.keys import keys_configured
from models.registry import Registry
from models.settings import Settings

_TIMEOUT_S = 600.0  # as long as the gateway itself has patience with an engine


def evaluate_served(
    settings: Settings,
    database: Database,
    task: Task,
    models: Sequence[str],
    scorers: Sequence[str],
    parameters: Mapping[str, Any],
    *,
    concurrency: int = CONCURRENCY,
    progress: Callable[[Progress], None] | None = None,
    notes: Sequence[str] = (),
) -> Evaluated:
    """Runs a task over served models; names may be aliases, scorers are names as `named_scorer` takes them.

    Raises:
        NotFound: a model is not in the registry.
        Unauthorized: keys are on, and the settings have none for the gateway.
        Invalid, Unavailable: see `run_task`.
    """
    if settings.page_key is None and keys_configured(database):
        raise Unauthorized("Keys are on: put one into the variable PARLEY_PAGE_KEY, and `eval` may ask the gateway.")
    registry = Registry(database)
    # Answers are stored under ids: an alias that moves later must not take them along.
    specs = [registry.resolve(name) for name in models]
    made = [named_scorer(name, Tools(lambda model: gateway_embedder(settings, model))) for name in scorers]
    toys = [spec.id for spec in specs if spec.toy]
    if toys:
        what = "is a toy: it shows" if len(toys) == 1 else "are toys: they show"
        notes = [*notes, f"{', '.join(toys)} {what} how evaluating works, not what a real model can do."]

    async def run() -> Evaluated:
        completers: dict[str, GatewayCompleter] = {}

        def completer_for(model: str) -> GatewayCompleter:
            # The runner repeats what is safe to repeat; the SDK would repeat time-outs too.
            if model not in completers:
                completers[model] = gateway_completer(settings, model, _TIMEOUT_S, retries=0, many=True)
            return completers[model]

        try:
            return await run_task(
                database,
                completer_for,
                task,
                [spec.id for spec in specs],
                made,
                parameters,
                concurrency=concurrency,
                progress=progress,
                notes=notes,
            )
        finally:
            for completer in completers.values():
                await completer.close()

    return asyncio.run(run())


def gateway_embedder(settings: Settings, model: str) -> Embed:
    """Embeds texts with a served model, by the OpenAI SDK. Calling it raises a ParleyError where that cannot be."""

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        import openai

        key = settings.page_key.get_secret_value() if settings.page_key else "no-key"
        with openai.OpenAI(base_url=settings.gateway_url, api_key=key, timeout=_TIMEOUT_S) as client:
            try:
                found = client.embeddings.create(model=model, input=list(texts), encoding_format="float").data
            except openai.NotFoundError as error:
                if error.code == "model_not_found":
                    raise told(error) from error
                raise Unavailable(
                    "This gateway has no /v1/embeddings: similarity by embedding cannot be had."
                ) from error
            except openai.OpenAIError as error:
                raise told(error) from error
            return [row.embedding for row in sorted(found, key=lambda row: row.index)]

    return embed
