"""The worker's handlers for this room: the jobs "judge", "evaluate" and "prepare-campaign".

The commands run the first two in the foreground.
"""

import time
from functools import partial
from typing import Any

from evals.campaigns.lifecycle import load_campaign
from evals.campaigns.preparation import prepare_campaign
from evals.judges.pairwise import judge_models
from evals.judges.pairwise_evaluation import judge_evaluation
from evals.judges.request import JudgeRequest
from evals.judges.rubric import find_rubric
from evals.served_models import resolve_models, run_with_completers
from evals.served_runs import EvaluationProgress, evaluate_served, judge_served
from evals.tasks.evaluations import TaskRun, load_evaluation
from evals.tasks.runner import Progress
from evals.tasks.task_sources import open_task
from models.errors import Invalid
from models.jobs import Job
from models.judge_prompt import DEFAULT_RUBRIC
from models.worker import JobContext

EVALUATE = "evaluate"  # the kind of a job that runs a task
_ANSWERING_SHARE = 0.7  # of an evaluation's progress, if judges grade the answers afterwards
_MAX_TOKENS = 512
_MIN_INTERVAL_S = 0.5  # between two reports: each writes to the database


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
    last_report = 0.0

    def answering(progress: Progress) -> None:
        nonlocal last_report
        now = time.monotonic()
        if now - last_report < _MIN_INTERVAL_S and progress.done < progress.total:
            return
        last_report = now
        failed = f", {progress.failed} failed" if progress.failed else ""
        share = progress.done / max(1, progress.total) * (_ANSWERING_SHARE if judged else 1.0)
        context.report(share, f"answering: {progress.done} of {progress.total}{failed}")

    def scoring(share: float, line: str) -> None:
        context.report(_ANSWERING_SHARE + (1 - _ANSWERING_SHARE) * share, line)

    parameters = {"temperature": 0.0, "max_tokens": int(job.params.get("max_tokens") or _MAX_TOKENS)}
    run = TaskRun(task.first(job.params.get("limit")), models, parameters=parameters)
    evaluation = evaluate_served(
        context.settings, context.database, run, scorers, EvaluationProgress(answering, scoring)
    )
    return {"evaluation": evaluation.id, "asked": evaluation.run.asked, "cached": evaluation.run.cached}


def run_preparation_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "prepare-campaign"; params: campaign. The result has each model's answers.

    Models that fail do not fail the job: their answers are asked for when a rater needs them.
    """
    name = str(_required(job, "campaign"))
    resolve_models(context.settings, context.database, *load_campaign(context.database, name).models)
    last_report = 0.0

    def report(done: int, total: int, failed: int) -> None:
        nonlocal last_report
        now = time.monotonic()
        if now - last_report >= _MIN_INTERVAL_S or done >= total:
            last_report = now
            context.report(done / max(1, total), f"answers: {done} of {total}{f', {failed} failed' if failed else ''}")

    found = run_with_completers(
        context.settings,
        context.database,
        lambda completers: prepare_campaign(context.database, completers.unretried, name, report),
    )
    return {"models": {each.model: {"answers": each.answers, "wanted": each.wanted} for each in found}}


def _required(job: Job, name: str) -> Any:
    if not job.params.get(name):
        raise Invalid(f"A job of kind {job.kind} needs the parameter {name!r}.", param=name)
    return job.params[name]
