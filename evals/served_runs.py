"""An evaluation over served models, through the gateway, as any client asks: completers, embeddings, judges, notes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

from evals.judges.judge_scorer import judge_scorer
from evals.judges.rubric import find_rubric
from evals.request_pool import Report
from evals.scorers.catalog import NamedScorer, Tools, named_scorer
from evals.scorers.reference_similarity import Embed
from evals.served_models import agreement_note, judge_notes, resolved, through_gateway
from evals.tasks.evaluations import Evaluated, run_task
from evals.tasks.runner import CONCURRENCY, Progress
from evals.tasks.task import Task
from models.completer import translate_error
from models.database import Database
from models.errors import Unavailable
from models.judge_format import DEFAULT_RUBRIC
from models.messages import Completer
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
    scoring: Report | None = None,
    notes: Sequence[str] = (),
) -> Evaluated:
    """Runs a task over served models; names may be aliases, scorers are names as `named_scorer` takes them.

    Args:
        progress: of the asking. scoring: of scorers that take their time, as judges do: a share of 0 to 1, and a line.

    Raises:
        NotFound: a model is not in the registry.
        Unauthorized: keys are on, and the settings have none for the gateway.
        Invalid, Unavailable: see `run_task`.
    """
    # Answers are stored under ids: an alias that moves later must not take them along.
    specs = resolved(settings, database, *models)

    judges = [name for name in scorers if name.startswith("judge:")]
    begun = count()

    def judge(model: str, rubric: str | None) -> NamedScorer:
        (spec,) = resolved(settings, database, model)
        found = find_rubric(rubric or DEFAULT_RUBRIC.name, database)
        return judge_scorer(
            database,
            spec.id,
            found,
            partial(through_gateway, settings),
            notes=[*judge_notes(database, spec, specs), agreement_note(database, spec.id, found)],
            report=scoring and partial(_report_of_one, scoring, next(begun), len(judges)),
        )

    tools = Tools(embedder=partial(gateway_embedder, settings), judge=judge)
    made = [named_scorer(name, tools) for name in scorers]
    toys = [spec.id for spec in specs if spec.toy]
    if toys:
        what = "is a toy: it shows" if len(toys) == 1 else "are toys: they show"
        notes = [*notes, f"{', '.join(toys)} {what} how evaluating works, not what a real model can do."]

    async def run(completer_for: Callable[[str], Completer]) -> Evaluated:
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

    # The runner repeats what is safe to repeat; the SDK would repeat time-outs too.
    return through_gateway(settings, run, timeout_s=_TIMEOUT_S, retries=0, many=True)


def _report_of_one(report: Report, place: int, judges: int, share: float, line: str) -> None:
    """One judge's progress as all judges': they come one after the other."""
    report((place + share) / judges, line)


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
                    raise translate_error(error) from error
                raise Unavailable(
                    "This gateway has no /v1/embeddings: similarity by embedding cannot be had."
                ) from error
            except openai.OpenAIError as error:
                raise translate_error(error) from error
            return [row.embedding for row in sorted(found, key=lambda row: row.index)]

    return embed
