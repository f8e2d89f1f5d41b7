"""The form of the Evaluations tab: task, models, scorers, judge. It enqueues, watches and cancels evaluations.

The worker does the work (`evals.jobs`). `tab.py` shows the reports.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from evals.jobs import EVALUATE
from evals.judges.rubric import shipped_rubrics
from evals.scorers.catalog import catalog, check_names, split_names
from evals.tasks.task import Task
from evals.tasks.task_sources import open_task
from evals.votes.prompts import prompts
from models.chat.judge_prompt import DEFAULT_RUBRIC
from models.errors import Invalid, ParleyError
from models.files.stored_files import Files
from models.jobs.jobs import Job, cancel, enqueue, get_job, list_jobs
from ui.backend.context import PageContext, error_message
from ui.backend.model_options import model_options, preselected_pair
from ui.backend.uploads import TASK_PURPOSE, TASK_SUFFIXES, file_label, path_with_suffix
from ui.look.components import live_dropdown, read_form
from ui.look.markup import job_status, notice

REFRESH_S = 1.5
_STORED = {"prompts": "Stored prompts", "prompts:held-out": "Stored prompts, held out"}
_NO_JUDGE = ""
_BY_REFERENCE, _ALWAYS = ("includes", "topics"), "length:5-60"  # suggested scorers
_DROP = f"""
<label id="evaluate-drop" class="drop small" for="evaluate-file" tabindex="0" data-purpose="{TASK_PURPOSE}"
data-uploaded="evaluate-uploaded">
<span><b>Drop a task file here</b>, or click to choose one ({", ".join(TASK_SUFFIXES)}). Each row is a question:
<code>input</code> and <code>expected</code>, or <code>turns</code>. <em id="evaluate-sent" role="status"></em></span>
<input id="evaluate-file" type="file" accept="{",".join(TASK_SUFFIXES)}"></label>
"""


@dataclass(frozen=True)
class EvaluationForm:
    """What the form holds when an evaluation is started."""

    task: str | None
    models: list[str] | None
    scorers: list[str] | None
    judge: str | None
    rubric: str
    limit: str
    tokens: str
    skip: bool

    @property
    def scorer_names(self) -> list[str]:
        """The scorers, and the judge as one of them."""
        return split_names(list(self.scorers or ())) + ([f"judge:{self.judge}@{self.rubric}"] if self.judge else [])


@dataclass(frozen=True)
class FormView:
    """The components that the handlers read and update; the first ones are the fields of `EvaluationForm`."""

    task: gr.Dropdown
    models: gr.Dropdown
    scorers: gr.Dropdown
    judge: gr.Dropdown
    rubric: gr.Dropdown
    limit: gr.Textbox
    tokens: gr.Textbox
    skip: gr.Checkbox
    uploaded: gr.Button
    start: gr.Button
    stop: gr.Button
    line: gr.HTML
    run: gr.State
    timer: gr.Timer

    @property
    def lists(self) -> list[Any]:
        """The components that are filled when the tab opens."""
        return [self.task, self.models, self.judge, self.scorers]

    @property
    def watched(self) -> list[Any]:
        """The components that change during a run."""
        return [self.line, self.start, self.stop, self.run, self.timer]


class EvaluationStarter:
    """The form's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: FormView) -> None:
        self._context = context
        self._view = view

    async def refresh(
        self, task: str | None, models: Sequence[str] | None, judge: str | None, scorers: Sequence[str] | None = None
    ) -> dict[Any, Any]:
        """Updates the tasks and models, and shows the run that is going on, if any."""
        view = self._view
        try:
            tasks, served, runs = await asyncio.gather(
                asyncio.to_thread(self._tasks),
                asyncio.to_thread(self._context.models),
                asyncio.to_thread(list_jobs, self._context.database, EVALUATE, 1),
            )
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.line: notice(error_message(error), "bad")}
        served_ids = [model.id for model in served]
        chosen = [name for name in models or () if name in served_ids] or preselected_pair(served)
        judges = sorted(served, key=lambda model: not model.spec.judge)
        values = [value for _, value in tasks]
        task = task if task in values else next(iter(values), None)
        update = {
            view.task: gr.update(choices=tasks, value=task),
            view.models: gr.update(choices=model_options(served), value=chosen),
            view.judge: gr.update(
                choices=[("no judge", _NO_JUDGE), *model_options(judges)],
                value=judge if judge in served_ids else _NO_JUDGE,
            ),
        }
        suggested = await self.suggest_scorers(task, scorers)
        return update | suggested | await self.watch(runs[0].id if runs and not runs[0].over else None)

    async def refresh_after_upload(
        self, models: Sequence[str] | None, judge: str | None, scorers: Sequence[str] | None = None
    ) -> dict[Any, Any]:
        """Chooses the file that was uploaded last, and clears the error about the one before."""
        return {self._view.line: ""} | await self.refresh(None, models, judge, scorers)

    async def suggest_scorers(self, task: str | None, scorers: Sequence[str] | None) -> dict[Any, Any]:
        """Chooses the scorers for which the task has references, unless the owner has chosen others."""
        if not task or not set(scorers or ()) <= {*_BY_REFERENCE, _ALWAYS}:
            return {}
        try:
            opened = await asyncio.to_thread(self._open_task, task)
        except ParleyError:  # reported when the evaluation is started
            return {}
        return {self._view.scorers: suggested_scorers(opened)}

    async def begin(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Checks the form, enqueues the evaluation and watches it."""
        form = read_form(EvaluationForm, self._view, values)
        try:
            params = await asyncio.to_thread(self._params, form)
            job_id = await asyncio.to_thread(enqueue, self._context.database, EVALUATE, params)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "warn")}
        return await self.watch(job_id)

    async def stop(self, run: str | None) -> dict[Any, Any]:
        """Cancels the run; its worker notices within seconds. Finished answers are kept."""
        if run:
            await asyncio.to_thread(cancel, self._context.database, run)
        return await self.watch(run)

    async def watch(self, run: str | None) -> dict[Any, Any]:
        """Updates the run's state; the timer stops once the run is over."""
        view = self._view
        if not run:
            return {
                view.line: "",
                view.start: gr.update(interactive=True),
                view.stop: gr.update(visible=False),
                view.run: None,
                view.timer: gr.update(active=False),
            }
        try:
            job = await asyncio.to_thread(get_job, self._context.database, run)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        return {
            view.line: progress_html(job),
            view.start: gr.update(interactive=job.over),
            view.stop: gr.update(visible=not job.over),
            view.run: run,
            view.timer: gr.update(active=not job.over),
        }

    async def result(self, run: str | None) -> str | None:
        """The id of the evaluation that a run made; None if it has not succeeded."""
        if not run:
            return None
        job = await asyncio.to_thread(get_job, self._context.database, run)
        return (job.result or {}).get("evaluation") if job.status == "succeeded" else None

    def _tasks(self) -> list[tuple[str, str]]:
        files = Files(self._context.settings, self._context.database).list(TASK_PURPOSE)
        options = [(file_label(file), file.id) for file in files]
        stored = prompts(self._context.database)
        held_out = sum(prompt.held_out for prompt in stored)
        counts = {"prompts": len(stored), "prompts:held-out": held_out}
        return options + [(f"{_STORED[name]} ({count})", name) for name, count in counts.items() if count]

    def _params(self, form: EvaluationForm) -> dict[str, Any]:
        """The job's params, checked as far as possible without calling a model."""
        if not form.task:
            raise Invalid("Drop a task file first.", param="task")
        if not form.models:
            raise Invalid("Choose at least one model; the others are compared with the first.", param="models")
        scorers = form.scorer_names
        check_names(scorers)
        task = self._open_task(form.task)
        if task.bad and not form.skip:
            total, first = len(task.bad) + len(task.samples), str(task.bad[0])
            raise Invalid(
                f"{len(task.bad)} of {total} rows cannot be read. {first[:1].upper()}{first[1:]} "
                "Fix the file, or tick “Skip unreadable rows”.",
                param="task",
            )
        return {
            "task": self._source(form.task),
            "name": task.name,
            "models": form.models,
            "scorers": scorers,
            "limit": _whole_number(form.limit, "Number of samples"),
            "max_tokens": _whole_number(form.tokens, "Maximum answer length"),
            "skip_bad": form.skip,
        }

    def _source(self, task: str) -> str:
        return task if task in _STORED else str(path_with_suffix(self._context, task))

    def _open_task(self, task: str) -> Task:
        return open_task(self._source(task), self._context.database, self._context.settings.runs_dir)


def suggested_scorers(task: Task) -> list[str]:
    """The scorers that apply to this task: those for which it has references, and the answer's length."""
    has = {
        "includes": any(sample.sample.accepted for sample in task.samples),
        "topics": any(sample.sample.topics for sample in task.samples),
    }
    return [*(name for name in _BY_REFERENCE if has[name]), _ALWAYS]


def progress_html(job: Job) -> str:
    """A run's progress bar, or why it ended."""
    return job_status(job, "This run was cancelled. Its answers are kept: start it again to continue.")


def build_evaluation_form() -> FormView:
    """Lays out the form. Call it inside the tab."""
    with gr.Row(elem_classes="form-row"):
        task = live_dropdown(label="Task", elem_id="evaluate-task")
        models = live_dropdown(label="Models (the others are compared with the first)", multiselect=True,
                               elem_id="evaluate-models", scale=2)  # fmt: skip
    gr.HTML(_DROP)
    uploaded = gr.Button(elem_id="evaluate-uploaded", elem_classes="offstage")
    with gr.Row(elem_classes="form-row"):
        plain = [kind.name for kind in catalog() if ":" not in kind.typed.replace("[", "").replace(":3]", "")]
        scorers = gr.Dropdown(
            [*plain, _ALWAYS], value=[_ALWAYS], multiselect=True, allow_custom_value=True,
            label="Scorers (choose, or type one such as regex:^Yes)", elem_id="evaluate-scorers", scale=2,
        )  # fmt: skip
        judge = live_dropdown(label="Judge", elem_id="evaluate-judge")
        rubric = gr.Dropdown(
            [rubric.name for rubric in shipped_rubrics()], value=DEFAULT_RUBRIC.name, label="Judge’s rubric",
            elem_id="evaluate-rubric",
        )  # fmt: skip
    with gr.Row(elem_classes="form-row numbers"):
        limit = gr.Textbox("all", label="Number of samples", max_lines=1, min_width=120, elem_id="evaluate-limit")
        tokens = gr.Textbox("512", label="Maximum answer length (tokens)", max_lines=1, min_width=120,
                            elem_id="evaluate-tokens")  # fmt: skip
        skip = gr.Checkbox(False, label="Skip unreadable rows", min_width=200, elem_id="evaluate-skip")
    line = gr.HTML(elem_id="evaluate-line")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start evaluation", variant="primary", size="md", elem_id="evaluate-start")
        stop = gr.Button("Cancel", size="md", visible=False, elem_id="evaluate-stop")
    return FormView(
        task, models, scorers, judge, rubric, limit, tokens, skip, uploaded, start, stop, line, gr.State(None),
        gr.Timer(REFRESH_S, active=False),
    )  # fmt: skip


def _whole_number(typed: str, label: str) -> int | None:
    """A number from 1; None for "all" or nothing."""
    text = str(typed or "").strip().lower()
    if text in ("", "all"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Invalid(f"{label} is {text[:20]!r}: use a whole number from 1, or all.")
    return int(text)
