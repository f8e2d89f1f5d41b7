"""What the worker runs for this room: judging and evaluating. The command line runs the same in the foreground."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from evals.judges.calibration import Calibration, calibrate
from evals.judges.pairwise import judge_models
from evals.judges.pairwise_evaluation import judge_evaluation
from evals.judges.report import JudgeReport
from evals.judges.rubric import find_rubric
from evals.request_pool import Report
from evals.served_models import judge_notes, resolved, through_gateway
from evals.served_runs import evaluate_served
from evals.tasks.evaluations import load_evaluation
from evals.tasks.runner import Progress
from evals.tasks.task_sources import open_task
from models.database import Database
from models.errors import Invalid
from models.jobs import Job
from models.judge_format import DEFAULT_RUBRIC, Rubric
from models.messages import Completer
from models.registry import Registry
from models.settings import Settings
from models.worker import JobContext

Found = TypeVar("Found")
EVALUATE = "evaluate"  # the kind of a job that runs a task
_ASKED = 0.7  # of an evaluation's progress, where scorers take their time after the asking
_MAX_TOKENS = 512
_QUIET_S = 0.5  # between two reports


def run_judge_job(job: Job, context: JobContext) -> dict[str, Any]:
    """The worker's handler of kind "judge"; params: judge, model_a, model_b, prompts, rubric, evaluation.

    `prompts` is a number or ids, `rubric` a name; with `evaluation`, an id, the judge compares its stored answers. The
    result is `JudgeReport.to_json()`.
    """
    judge, model_a, model_b = (str(_needed(job, name)) for name in ("judge", "model_a", "model_b"))
    rubric = find_rubric(str(job.params.get("rubric") or DEFAULT_RUBRIC.name), context.database)
    asking: Callable[..., Awaitable[JudgeReport]] = partial(
        judge_models, context.database, prompts=job.params.get("prompts")
    )
    if wanted := job.params.get("evaluation"):
        asking = partial(judge_evaluation, context.database, load_evaluation(context.database, str(wanted)))
    models = (model_a, model_b)
    found = judge_served(context.settings, context.database, asking, judge, models, context.report, rubric=rubric)
    return found.to_json()


def run_evaluation_job(job: Job, context: JobContext) -> dict[str, Any]:
    """The worker's handler of kind "evaluate"; the result has the evaluation's id, under `evaluation`.

    Params: `task` as `open_task` takes it, `name`, `models` (names), `scorers` (names), `limit`, `max_tokens`,
    `skip_bad`. Rows that are no samples fail the job unless `skip_bad` is true.
    """
    models, scorers = list(_needed(job, "models")), [str(name) for name in _needed(job, "scorers")]
    name = job.params.get("name")
    task = open_task(str(_needed(job, "task")), context.database, context.settings.runs_dir, name=name)
    if task.bad and not job.params.get("skip_bad"):
        raise Invalid(f"{len(task.bad)} rows of {task.name} are no samples. {task.bad[0]}", param="task")
    judged = any(scorer.startswith("judge:") for scorer in scorers)

    told = 0.0

    def asked(progress: Progress) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told < _QUIET_S and progress.done < progress.total:
            return  # each report writes to the database, and answers may come by the hundred
        told = now
        failed = f", {progress.failed} failed" if progress.failed else ""
        share = progress.done / max(1, progress.total) * (_ASKED if judged else 1.0)
        context.report(share, f"asking: {progress.done} of {progress.total}{failed}")

    def scored(share: float, line: str) -> None:
        context.report(_ASKED + (1 - _ASKED) * share, line)

    made = evaluate_served(
        context.settings,
        context.database,
        task.first(job.params.get("limit")),
        models,
        scorers,
        {"temperature": 0.0, "max_tokens": int(job.params.get("max_tokens") or _MAX_TOKENS)},
        progress=asked,
        scoring=scored,
    )
    return {"evaluation": made.id, "asked": made.run.asked, "cached": made.run.cached}


def judge_served(
    settings: Settings,
    database: Database,
    asking: Callable[..., Awaitable[Found]],
    judge: str,
    models: tuple[str, str],
    report: Report | None = None,
    *,
    rubric: Rubric = DEFAULT_RUBRIC,
    samples: int = 1,
) -> Found:
    """A served judge over two served models, through the gateway; names may be aliases.

    Args:
        asking: what is asked: `judging.judge_models`, `grading.grade_models` or `judged_tasks.judge_evaluation`, with
            database and questions filled in.

    Raises:
        NotFound: a model is not in the registry, or there are no prompts.
        Unauthorized: keys are on, and the settings have none for the gateway.
        Unavailable: the gateway or a model cannot be reached.
    """
    judge_spec, spec_a, spec_b = resolved(settings, database, judge, *models)
    notes = judge_notes(database, judge_spec, (spec_a, spec_b))

    async def run(completer_for: Callable[[str], Completer]) -> Found:
        return await asking(
            completer_for=completer_for,
            judge=judge_spec.id,
            models=(spec_a.id, spec_b.id),
            rubric=rubric,
            report=report,
            notes=notes,
            samples=samples,
        )

    return through_gateway(settings, run)


def calibrate_served(
    settings: Settings,
    database: Database,
    judge: str,
    report: Report | None = None,
    *,
    rubric: Rubric = DEFAULT_RUBRIC,
    ask: bool = True,
) -> Calibration:
    """Holds a served judge against the votes; without `ask` only what it has judged already.

    Raises:
        NotFound: the judge is not in the registry, or nobody has voted.
        Unauthorized, Unavailable: see `judge_served`.
    """
    if not ask:
        return asyncio.run(calibrate(database, None, Registry(database).resolve(judge).id, rubric))
    (spec,) = resolved(settings, database, judge)

    async def run(completer_for: Callable[[str], Completer]) -> Calibration:
        return await calibrate(database, completer_for, spec.id, rubric, report)

    return through_gateway(settings, run)


def _needed(job: Job, name: str) -> Any:
    if not job.params.get(name):
        raise Invalid(f"A job of kind {job.kind} needs {name!r}.", param=name)
    return job.params[name]
