"""Runs over served and recorded models: an evaluation, a judge, a calibration."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import TypeVar

from evals.judges.calibration import Calibration, CalibrationRequest, calibrate
from evals.judges.judge_scorer import judge_scorer
from evals.judges.notes import agreement_note, judge_notes, rubric_notes
from evals.judges.request import JudgeRequest
from evals.judges.rubric import IMPORTED_RUBRIC, find_rubric
from evals.recordings.recorded_models import parse_recorded_name, recorded_prompt_ids, recording_notes
from evals.request_pool import ReportProgress
from evals.scorers.catalog import NamedScorer, ScorerContext, named_scorer
from evals.scorers.reference_similarity import Embed
from evals.served_models import GATEWAY_TIMEOUT_S, Completers, ReportWait, resolve_models, run_with_completers
from evals.tasks.evaluations import EvaluationRun, TaskRun, run_task
from evals.tasks.runner import Progress
from models.chat.completer import translate_error
from models.chat.judge_prompt import DEFAULT_RUBRIC
from models.chat.messages import Completer
from models.database import Database
from models.errors import MODEL_STARTING, Invalid, NotFound, Unavailable
from models.home.instance import find_gateway, gateway_tls
from models.registry.registry import Registry
from models.settings.settings import Settings
from models.spec import ModelSpec

Result = TypeVar("Result")
JudgeMethod = Callable[[Database, Callable[[str], Completer], JudgeRequest, ReportProgress | None], Awaitable[Result]]
"""`judge_models`, `grade_models`, or `judge_evaluation` with its evaluation filled in."""


@dataclass(frozen=True)
class EvaluationProgress:
    """Callbacks: `answering` while models answer, `scoring` while judges grade (a share of 0 to 1, and a line).

    `waiting`: called with a line while a request waits for an engine that is starting.
    """

    answering: Callable[[Progress], None] | None = None
    scoring: ReportProgress | None = None
    waiting: ReportWait = lambda _: None


@dataclass
class _Reporter:
    """Reports a run's progress. While a request waits for an engine, only the line changes."""

    report: ReportProgress | None
    share: float = 0.0

    def __call__(self, share: float, line: str) -> None:
        self.share = share
        if self.report is not None:
            self.report(share, line)

    def wait(self, line: str) -> None:
        self(self.share, line)


def evaluate_served(
    settings: Settings,
    database: Database,
    run: TaskRun,
    scorers: Sequence[str],
    progress: EvaluationProgress | None = None,
) -> EvaluationRun:
    """Runs a task over served models.

    Args:
        run: its models are names or aliases, and its scorers are ignored.
        scorers: names as `named_scorer` takes them.

    Raises:
        NotFound: a model is not in the registry.
        Unauthorized: keys are required, and the settings have none for the gateway.
        Invalid, Unavailable: see `run_task`.
    """
    progress = progress or EvaluationProgress()
    specs = resolve_models(settings, database, *run.models)
    toys = [spec.id for spec in specs if spec.toy]
    notes = [*run.notes, *recording_notes(database, specs)]
    if toys:
        what = "is a toy: it shows" if len(toys) == 1 else "are toys: they show"
        notes.append(f"{', '.join(toys)} {what} how evaluation works, not what a real model can do.")

    async def evaluate(completers: Completers) -> EvaluationRun:
        places, judges = count(), sum(name.startswith("judge:") for name in scorers)

        def judge(model: str, rubric_name: str | None) -> NamedScorer:
            (spec,) = _resolve_judge(settings, database, model)
            rubric = find_rubric(rubric_name or DEFAULT_RUBRIC.name, database)
            return judge_scorer(
                database,
                (spec.id, completers(spec.id)),
                rubric,
                notes=[*judge_notes(database, spec, specs), agreement_note(database, spec.id, rubric)],
                report=progress.scoring and partial(_report_part, progress.scoring, next(places), judges),
            )

        context = ScorerContext(embedder=partial(gateway_embedder, settings), judge=judge)
        resolved = replace(
            run,
            models=[spec.id for spec in specs],
            scorers=[named_scorer(name, context) for name in scorers],
            notes=notes,
        )
        return await run_task(database, completers.unretried, resolved, progress.answering)

    return run_with_completers(settings, database, evaluate, progress.waiting)


def _report_part(report: ReportProgress, place: int, total: int, share: float, line: str) -> None:
    """One judge's progress as a part of all judges': they run one after another."""
    report((place + share) / total, line)


def judge_served(
    settings: Settings,
    database: Database,
    method: JudgeMethod[Result],
    request: JudgeRequest,
    report: ReportProgress | None = None,
) -> Result:
    """A served judge over two served or recorded models; names may be aliases, and notes on the judge are added.

    Recorded models are judged on what is recorded, unless the request names prompts.

    Raises:
        NotFound: a model is not in the registry, or there are no prompts.
        Unauthorized: keys are required, and the settings have none for the gateway.
        Unavailable: the gateway or a model cannot be reached.
    """
    judge, *models = _resolve_judge(settings, database, request.judge, *request.models)
    recorded = [name for model in models if (name := parse_recorded_name(model.id))]
    prompts = request.prompts
    if recorded and (prompts is None or isinstance(prompts, int)):
        prompts = recorded_prompt_ids(database, recorded)[:prompts]
        if not prompts:
            raise NotFound(f"No prompt is recorded for {' and '.join(map(str, recorded))}.", param="prompts")
    resolved = replace(
        request,
        judge=judge.id,
        models=(models[0].id, models[1].id),
        prompts=prompts,
        notes=[
            *request.notes,
            *recording_notes(database, models),
            *rubric_notes(request.rubric),
            *judge_notes(database, judge, models),
        ],
    )
    reporter = _Reporter(report)
    return run_with_completers(
        settings, database, lambda completers: method(database, completers, resolved, reporter), reporter.wait
    )


def calibrate_served(
    settings: Settings,
    database: Database,
    request: CalibrationRequest,
    report: ReportProgress | None = None,
) -> Calibration:
    """Compares a served judge, named by its id or an alias, with a campaign's votes.

    It first judges the voted pairs that it has not judged yet.

    Raises:
        NotFound: the judge is not in the registry, there is no such campaign, or nobody has voted in it.
        Unauthorized, Unavailable: see `judge_served`.
    """
    (spec,) = _resolve_judge(settings, database, request.judge)
    resolved = replace(request, judge=spec.id)
    reporter = _Reporter(report)
    return run_with_completers(
        settings, database, lambda completers: calibrate(database, completers, resolved, reporter), reporter.wait
    )


def _resolve_judge(settings: Settings, database: Database, judge: str, *models: str) -> list[ModelSpec]:
    """As `resolve_models`, for a judge and the models that it compares.

    Raises:
        Invalid: the judge is a recorded model.
    """
    if parse_recorded_name(judge):
        raise Invalid(f"{judge} has only recorded answers, so it cannot judge: name a served model.", param="judge")
    return resolve_models(settings, database, judge, *models)


def calibrate_stored(database: Database, request: CalibrationRequest) -> Calibration:
    """As `calibrate_served`, from stored judgments only: nothing is asked."""
    try:
        request = replace(request, judge=Registry(database).resolve(request.judge).id)
    except NotFound:  # an outside judge, whose verdicts were imported, is not in the registry
        if request.rubric.hash != IMPORTED_RUBRIC.hash:
            raise
    return asyncio.run(calibrate(database, None, request))


def gateway_embedder(settings: Settings, model: str) -> Embed:
    """A function that embeds texts with a served model, and waits for an engine that is starting.

    The function raises ParleyError if the request fails.
    """

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        import openai

        key = settings.page_key.get_secret_value() if settings.page_key else "no-key"
        deadline = time.monotonic() + settings.longest_start_s
        tls = gateway_tls(settings)
        with openai.OpenAI(
            base_url=find_gateway(settings),
            api_key=key,
            timeout=GATEWAY_TIMEOUT_S,
            http_client=openai.DefaultHttpxClient(verify=tls) if tls else None,
        ) as client:
            while True:
                try:
                    rows = client.embeddings.create(model=model, input=list(texts), encoding_format="float").data
                except openai.NotFoundError as error:
                    if error.code == "model_not_found":
                        raise translate_error(error) from error
                    raise Unavailable(
                        "The gateway has no /v1/embeddings, which the scorer `embedding` needs."
                    ) from error
                except openai.OpenAIError as error:
                    failure = translate_error(error)
                    if failure.code != MODEL_STARTING or time.monotonic() > deadline:
                        raise failure from error
                    time.sleep(failure.retry_after or 1.0)
                else:
                    return [row.embedding for row in sorted(rows, key=lambda row: row.index)]

    return embed
