"""The worker's job "eval-run": requests answers, grades them and stores the output items, in batches.

A restarted job continues after the stored items. Answers and judges' verdicts are cached, so that no request is
repeated. At the end, the results become an evaluation, which the page and `parley eval show` show.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from evals.api_tables import EvalItemRow, EvalRunRow
from evals.eval_runs.data_sources import RunData, model_parameters, read_rows, run_data
from evals.eval_runs.evals import eval_row
from evals.eval_runs.given_answers import store_given
from evals.eval_runs.items import item_places
from evals.eval_runs.published import publish_evaluation, store_task
from evals.eval_runs.run_models import RunModels, answered_sample
from evals.eval_runs.runs import is_active
from evals.graders.grade import Case, Grade, ModelUsage
from evals.graders.grading import add_usage, grade_all
from evals.graders.templates import sample_values
from evals.request_pool import RateLimitedReport
from evals.served_models import Completers, find_models, run_with_completers
from evals.tasks.answer_cache import Outcome, storable_text
from evals.tasks.runner import Progress
from evals.tasks.task import TaskSample
from models.errors import NotFound
from models.files.stored_files import Files
from models.jobs.jobs import Job
from models.jobs.worker import JobCancelled, JobContext
from models.tables import JobRow

CHUNK = 512  # items that are answered, graded and stored together


@dataclass
class _Run:
    """A run in progress."""

    id: str
    job_id: str
    request: Mapping[str, Any]
    criteria: Sequence[Mapping[str, Any]]
    data: RunData
    label: str
    context: JobContext
    models: RunModels | None = None
    done: int = 0

    @property
    def samples(self) -> tuple[TaskSample, ...]:
        """All items."""
        return self.data.task.samples


def run_eval_run_job(job: Job, context: JobContext) -> dict[str, Any]:
    """Handles jobs of kind "eval-run"; params: `eval_run`, a run's id. The result has the evaluation's id.

    Raises:
        NotFound: the run was deleted. Invalid: its data cannot be used.
    """
    run = _load(job, context)
    with context.database.write() as session:
        store_task(session, run.data.task)
        _active_row(session, run).task_hash = run.data.task.hash
        stored = item_places(session, run.id)
    run.done = len(stored)
    pending = [place for place in range(len(run.samples)) if place not in stored]
    report = RateLimitedReport(context.report)

    async def work(completers: Completers) -> None:
        run.models = RunModels(
            context.settings,
            context.database,
            completers,
            salt=run.id,
            report=lambda progress: _report(report, run, progress),
            tick=lambda: _stop_if_cancelled(context, run),
        )
        for start in range(0, len(pending), CHUNK):
            places = pending[start : start + CHUNK]
            outcomes = await _answers(run, places)
            grades = await _grades(run, places, outcomes)
            _store(run, places, outcomes, grades)
            run.done += len(places)
            context.report(run.done / len(run.samples), f"graded {run.done} of {len(run.samples)}")

    run_with_completers(context.settings, context.database, work, lambda line: context.report(message=line))
    return {"evaluation": publish_evaluation(context.settings, context.database, run.id, run.label)}


def _load(job: Job, context: JobContext) -> _Run:
    run_id = str(job.params["eval_run"])
    with context.database.read() as session:
        row = session.scalar(select(EvalRunRow).where(EvalRunRow.id == run_id))
        if row is None:
            raise NotFound(f"The run {run_id} was deleted.")
        parent = eval_row(session, row.eval_id)
        config, criteria = parent.content["data_source_config"], parent.content["testing_criteria"]
        request, name, model = row.content["data_source"], row.name, row.model
        own_file = row.content["own_file"]
        title = parent.name
    files = Files(context.settings, context.database)
    schema = config["schema"]["properties"]["item"] if config["type"] == "custom" else None
    source = {"type": "file_id", "id": own_file} if own_file else request["source"]
    data = run_data(title, f"{name} ({run_id})", read_rows(files, source), request, schema)
    if model:
        (spec,) = find_models(context.settings, context.database, model)
        label = spec.id
    else:
        label = (_given_model(data) or name)[:255]
    return _Run(run_id, job.id, request, criteria, data, label, context)


def _given_model(data: RunData) -> str:
    """The model named by all answers in the data; empty if they name none or several."""
    names = {str((sample.sample.metadata.get("sample") or {}).get("model") or "") for sample in data.task.samples}
    return names.pop() if len(names) == 1 else ""


def _report(report: RateLimitedReport, run: _Run, progress: Progress) -> None:
    failed = f", {progress.failed} failed" if progress.failed else ""
    line = f"answered {progress.done} of {progress.total}{failed}"
    report(run.done, max(len(run.samples), run.done + 1), line)


def _stop_if_cancelled(context: JobContext, run: _Run) -> None:
    if context.cancelled:
        raise JobCancelled(run.job_id)


async def _answers(run: _Run, places: Sequence[int]) -> dict[int, Outcome]:
    """The model's answers, or the given ones; an error for each item without messages."""
    errors = {place: Outcome(error=run.data.errors[place]) for place in places if place in run.data.errors}
    wanted = [place for place in places if place not in errors]
    samples = [run.samples[place] for place in wanted]
    if not run.request.get("model"):
        return errors | dict(zip(wanted, store_given(run.context.database, run.label, samples), strict=True))
    assert run.models is not None
    parameters = model_parameters(run.request.get("sampling_params"))
    outcomes = await run.models.ask_samples(run.request["model"], samples, parameters) if samples else []
    return errors | dict(zip(wanted, outcomes, strict=True))


async def _grades(run: _Run, places: Sequence[int], outcomes: Mapping[int, Outcome]) -> dict[int, list[Grade]]:
    """Every criterion's grade of each item that has an answer."""
    assert run.models is not None
    answered = [place for place in places if outcomes[place].answer is not None]
    cases = [_case(run, place, outcomes[place]) for place in answered]
    grades: dict[int, list[Grade]] = {place: [] for place in places}
    for criterion in run.criteria:
        for place, grade in zip(answered, await grade_all(criterion, cases, run.models.grading_context()), strict=True):
            grades[place].append(grade)
    return grades


def _case(run: _Run, place: int, outcome: Outcome) -> Case:
    sample = run.samples[place]
    item, given = sample.sample.metadata["item"], sample.sample.metadata.get("sample") or {}
    assert outcome.answer is not None
    if not run.request.get("model"):
        return Case(item, sample_values(outcome.answer.text, **given) | given if given else {})
    own = answered_sample(outcome, sample.messages) | {"input_tools": _input_tools(run)}
    return Case(item, sample_values(outcome.answer.text, **own))


def _input_tools(run: _Run) -> list[Any]:
    return list((run.request.get("sampling_params") or {}).get("tools") or [])


def _store(
    run: _Run, places: Sequence[int], outcomes: Mapping[int, Outcome], grades: Mapping[int, Sequence[Grade]]
) -> None:
    """Stores the items, and counts them, in one transaction."""
    rows = [_item(run, place, outcomes[place], grades[place]) for place in places]
    with run.context.database.write() as session:
        row = _active_row(session, run)
        row.counts = _counted(run, row.counts, rows, outcomes, grades)
        session.add_all(rows)


def _active_row(session: Any, run: _Run) -> EvalRunRow:
    """The run's row, locked.

    Raises:
        JobCancelled: the run was deleted or cancelled.
    """
    row = session.scalar(select(EvalRunRow).where(EvalRunRow.id == run.id).with_for_update())
    if row is None or not is_active(session.get(JobRow, run.job_id)):
        raise JobCancelled(run.job_id)
    return row


def _item(run: _Run, place: int, outcome: Outcome, grades: Sequence[Grade]) -> EvalItemRow:
    if outcome.answer is None or any(grade.error for grade in grades):
        status = "error"
    else:
        status = "pass" if all(grade.passed for grade in grades) else "fail"
    error = None if outcome.error is None else storable_text(outcome.error)
    results = [result_json(criterion, grade) for criterion, grade in zip(run.criteria, grades, strict=False)]
    return EvalItemRow(
        run_id=run.id, place=place, status=status, answer_id=outcome.answer_id, error=error, results=results
    )


def result_json(criterion: Mapping[str, Any], grade: Grade) -> dict[str, Any]:
    """A grade in the format of an output item's results."""
    result = {
        "name": criterion["id"],
        "type": criterion["type"],
        "score": grade.score,
        "passed": grade.passed,
        "sample": dict(grade.sample) if grade.sample else None,
    }
    return result | ({"error": {"code": grade.kind, "message": grade.error}} if grade.error else {})


def _counted(
    run: _Run,
    counts: Mapping[str, Any],
    rows: Sequence[EvalItemRow],
    outcomes: Mapping[int, Outcome],
    grades: Mapping[int, Sequence[Grade]],
) -> dict[str, Any]:
    """The run's counts with these items."""
    items = dict.fromkeys(("total", "errored", "failed", "passed"), 0) | dict(counts.get("items", {}))
    criteria = {each["id"]: list(counts.get("criteria", {}).get(each["id"], (0, 0))) for each in run.criteria}
    usage = {model: ModelUsage(*values) for model, values in counts.get("usage", {}).items()}
    for row in rows:
        items["total"] += 1
        items[{"pass": "passed", "fail": "failed", "error": "errored"}[row.status]] += 1
        for result in row.results:
            criteria[result["name"]][0 if result["passed"] else 1] += 1
        answer = outcomes[row.place].answer
        if answer is not None and run.request.get("model"):
            used = ModelUsage(1, answer.prompt_tokens or 0, answer.completion_tokens or 0)
            model = run.request["model"]
            usage[model] = usage.get(model, ModelUsage()) + used
    for model, used in add_usage(grade for of_item in grades.values() for grade in of_item).items():
        usage[model] = usage.get(model, ModelUsage()) + used
    return {
        "items": items,
        "criteria": criteria,
        "usage": {model: [u.calls, u.prompt_tokens, u.completion_tokens] for model, u in usage.items()},
    }
