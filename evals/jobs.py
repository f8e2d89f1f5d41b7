"""The worker's handlers for this room: the jobs "judge", "evaluate", "record" and "prepare-campaign".

The commands run the first three in the foreground.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.preparation import prepare_campaign
from evals.judges.pairwise import judge_models
from evals.judges.pairwise_evaluation import judge_evaluation
from evals.judges.request import JudgeRequest
from evals.judges.rubric import find_rubric
from evals.recordings.costs import Prices, with_prices
from evals.recordings.prompt_sets import HELD_OUT, open_prompt_set
from evals.recordings.recorder import record_served
from evals.recordings.recording_request import SAMPLES, RecordingPlan, RecordingRequest, plan_recording
from evals.request_pool import RateLimitedReport, ReportProgress
from evals.served_models import resolve_models, run_with_completers
from evals.served_runs import EvaluationProgress, evaluate_served, judge_served
from evals.tasks.evaluations import TaskRun, load_evaluation
from evals.tasks.runner import Progress
from evals.tasks.task_sources import open_task
from models.chat.judge_prompt import DEFAULT_RUBRIC
from models.database import Database
from models.errors import Invalid
from models.jobs.jobs import Job
from models.jobs.worker import JobContext
from models.settings.settings import Settings
from models.spec import is_recorded_name
from models.usage import has_price

EVALUATE = "evaluate"  # the kind of a job that runs a task
RECORD = "record"  # the kind of a job that records a model's answers
_ANSWERING_SHARE = 0.7  # of an evaluation's progress, if judges grade the answers afterwards
_MAX_TOKENS = 512


def run_judge_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "judge"; params: judge, model_a, model_b, prompts, rubric, evaluation.

    `prompts` is a number or ids, `rubric` a name; with `evaluation`, an id, the judge compares its stored answers. The
    result is `JudgeReport.to_json()`.
    """
    judge, model_a, model_b = (str(_required(job, name)) for name in ("judge", "model_a", "model_b"))
    request = JudgeRequest(
        judge=judge,
        models=(model_a, model_b),
        prompts=job.params.get("prompts"),
        rubric=find_rubric(str(job.params.get("rubric") or DEFAULT_RUBRIC.name), context.database),
    )
    method = judge_models
    if evaluation := job.params.get("evaluation"):
        method = partial(judge_evaluation, evaluation=load_evaluation(context.database, str(evaluation)))
    return judge_served(context.settings, context.database, method, request, context.report).to_json()


def run_evaluation_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "evaluate"; the result has the evaluation's id under `evaluation`.

    Params: `task` as `open_task` takes it, `name`, `models` (names), `scorers` (names), `limit`, `max_tokens`,
    `skip_bad`. Rows that are not samples fail the job unless `skip_bad` is true.
    """
    models, scorers = list(_required(job, "models")), [str(name) for name in _required(job, "scorers")]
    task = open_task(
        str(_required(job, "task")), context.database, context.settings.runs_dir, name=job.params.get("name")
    )
    if task.bad and not job.params.get("skip_bad"):
        raise Invalid(f"{len(task.bad)} rows of {task.name} are not samples. {task.bad[0]}", param="task")
    judged = any(scorer.startswith("judge:") for scorer in scorers)
    answering_share = _ANSWERING_SHARE if judged else 1.0
    report = _count_reporter(lambda share, line: context.report(share * answering_share, line), "answering")

    def answering(progress: Progress) -> None:
        report(progress.done, progress.total, progress.failed)

    def scoring(share: float, line: str) -> None:
        context.report(_ANSWERING_SHARE + (1 - _ANSWERING_SHARE) * share, line)

    parameters = {"temperature": 0.0, "max_tokens": int(job.params.get("max_tokens") or _MAX_TOKENS)}
    run = TaskRun(task.first(job.params.get("limit")), models, parameters=parameters)
    evaluation = evaluate_served(
        context.settings,
        context.database,
        run,
        scorers,
        EvaluationProgress(answering, scoring, _wait_reporter(context)),
    )
    return {"evaluation": evaluation.id, "asked": evaluation.run.asked, "cached": evaluation.run.cached}


def run_preparation_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "prepare-campaign"; params: campaign. The result has each model's answers.

    Models that fail do not fail the job: their answers are asked for when a rater needs them.
    """
    name = str(_required(job, "campaign"))
    resolve_models(context.settings, context.database, *load_campaign(context.database, name).models)
    report = _count_reporter(context.report, "answers")
    prepared = run_with_completers(
        context.settings,
        context.database,
        lambda completers: prepare_campaign(context.database, completers.unretried, name, report),
        _wait_reporter(context),
    )
    return {"models": {each.model: {"answers": each.answers, "wanted": each.wanted} for each in prepared}}


def planned_recording(
    settings: Settings, database: Database, params: Mapping[str, Any]
) -> tuple[RecordingRequest, RecordingPlan]:
    """What a job of kind "record" would record, and what it costs at most. Asks nothing.

    Args:
        params: `model` (a name), and optionally `prompts` (as `open_prompt_set` takes it), `samples`, `max_cost` (US
            dollars, for the whole recording), `max_tokens`, and `prices` (US dollars per million input and output
            tokens, for a model without prices of its own).

    Raises:
        NotFound: there is no such model, or no such prompts. Invalid: a value is not possible, or there is no price.
    """
    if is_recorded_name(str(params["model"])):
        raise Invalid(f"{params['model']} is a recording: record the live model instead.", param="model")
    (spec,) = resolve_models(settings, database, str(params["model"]))
    chosen = open_prompt_set(database, settings.runs_dir, str(params.get("prompts") or HELD_OUT))
    prices = params.get("prices")
    request = RecordingRequest(
        spec=with_prices(spec, Prices(*prices) if prices else None),
        prompts=chosen.prompts,
        parameters={"max_tokens": int(params.get("max_tokens") or _MAX_TOKENS)},
        samples=int(params.get("samples") or SAMPLES),
        max_usd=params.get("max_cost"),
    )
    return request, plan_recording(database, request)


def run_record_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "record"; params: see `planned_recording`. A model that costs something needs `max_cost`.

    The result has the recording's id under `recording`, its coverage, the failed samples, and why it stopped early.
    """
    _required(job, "model")
    request, plan = planned_recording(context.settings, context.database, job.params)
    if request.max_usd is None and (not has_price(request.spec) or plan.left.usd):
        raise Invalid(f"{plan.left.text} The job needs a limit: max_cost.", param="max_cost")
    report = _count_reporter(context.report, "recording")

    def recording(progress: Progress) -> None:
        report(progress.done, progress.total, 0)  # the result has the failed samples

    run = record_served(context.settings, context.database, request, recording, _wait_reporter(context))
    return {
        "recording": run.recording.id,
        "coverage": run.recording.coverage,
        "failed": run.failed,
        "stopped": run.stopped,
    }


def _wait_reporter(context: JobContext) -> Callable[[str], None]:
    """A function that reports what the job is waiting for, without changing its progress."""
    return lambda line: context.report(message=line)


def _count_reporter(report: ReportProgress, label: str) -> Callable[[int, int, int], None]:
    """A function that reports the numbers of done, all, and failed requests, at a limited rate."""
    limited = RateLimitedReport(report)

    def report_counts(done: int, total: int, failed: int) -> None:
        limited(done, total, f"{label}: {done} of {total}" + (f", {failed} failed" if failed else ""))

    return report_counts


def _required(job: Job, name: str) -> Any:
    if not job.params.get(name):
        raise Invalid(f"A job of kind {job.kind} needs the parameter {name!r}.", param=name)
    return job.params[name]
