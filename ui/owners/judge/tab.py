"""The Judge tab: a model judges two others over a set of questions. It enqueues, watches and shows judging runs.

The worker does the work (`evals.jobs`). What a report looks like is in `html.py`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.judges.report import JudgeReport
from evals.judges.rubric import LIKELIHOOD_RUBRIC, shipped_rubrics
from evals.tasks.evaluations import list_evaluations
from models.chat.judge_prompt import DEFAULT_RUBRIC
from models.errors import ParleyError
from models.jobs.jobs import Job, cancel, enqueue, get_job, list_jobs
from ui.backend.context import PageContext, ServedModel, error_message
from ui.backend.model_options import model_options, pick_model, preselected_pair
from ui.look.components import QUIET, form_inputs, live_dropdown, read_form
from ui.look.markup import STATUS_LABELS, job_status, notice
from ui.look.number_field import NumberField
from ui.owners.judge.html import report_html, report_plot, report_table

_LIKELIHOOD = ("none: the likelier answer wins", LIKELIHOOD_RUBRIC.name)
STORED = ""  # the questions are the stored prompts
_REFRESH_S = 1.5
_PROMPTS = NumberField("Number of prompts", 1, 10_000, whole=True)


@dataclass(frozen=True)
class JudgeForm:
    """What the form holds when judging is started."""

    judge: str | None
    model_a: str | None
    model_b: str | None
    prompts: float | None
    rubric: str
    questions: str | None

    @property
    def mistake(self) -> str:
        """What is wrong with the choice of models; empty if nothing is."""
        if not self.judge or not self.model_a or not self.model_b:
            return "Choose a judge and two models."
        if self.model_a == self.model_b:
            return "Choose two different models."
        if self.judge in (self.model_a, self.model_b):
            return "A model cannot judge itself. Choose another judge."
        return ""


@dataclass(frozen=True)
class JudgeView:
    """The components that the handlers read and update; the first ones are the fields of `JudgeForm`."""

    judge: gr.Dropdown
    model_a: gr.Dropdown
    model_b: gr.Dropdown
    prompts: gr.Number
    rubric: gr.Dropdown
    questions: gr.Dropdown
    description: gr.HTML
    line: gr.HTML
    start: gr.Button
    stop: gr.Button
    runs: gr.Dropdown
    report: gr.HTML
    plot: gr.Plot
    table: gr.HTML
    result: gr.Column
    timer: gr.Timer


class JudgeTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: JudgeView) -> None:
        self._context = context
        self._view = view

    async def refresh(
        self, judge: str | None, a: str | None, b: str | None, run: str | None, questions: str | None = None
    ) -> dict[Any, Any]:
        """Updates the models and runs; shows the latest run if none is chosen."""
        view = self._view
        try:
            models = await asyncio.to_thread(self._context.models)
            runs = await asyncio.to_thread(list_jobs, self._context.database, "judge")
            sources = await asyncio.to_thread(self._question_options)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.line: notice(error_message(error), "bad")}
        judges = sorted(models, key=lambda model: not model.spec.judge)
        players = sorted(models, key=lambda model: (model.spec.judge, not model.ready))
        judge = pick_model(judges, judge)
        if a is None and b is None and len(pair := preselected_pair(models)) == 2:
            a, b = pair
        a, b = pick_model(players, a), pick_model(players, b, position=1)
        run = run if any(job.id == run for job in runs) else (runs[0].id if runs else None)
        source = questions if questions in [value for _, value in sources] else STORED
        update = {
            view.judge: gr.update(choices=model_options(judges), value=judge),
            view.model_a: gr.update(choices=model_options(players), value=a),
            view.model_b: gr.update(choices=model_options(players), value=b),
            view.questions: gr.update(choices=sources, value=source),
            view.prompts: _prompts_update(source),
            view.description: describe_judging(models, judge, a, b),
            view.runs: gr.update(choices=_run_options(runs), value=run, visible=bool(runs)),
        }
        return update | await self.watch(run)

    async def describe(self, judge: str | None, a: str | None, b: str | None) -> str:
        """Describes what the judge will do with these models."""
        return describe_judging(await asyncio.to_thread(self._context.models), judge, a, b)

    async def choose_questions(
        self, judge: str | None, a: str | None, b: str | None, questions: str | None
    ) -> dict[Any, Any]:
        """Chooses an evaluation's first two models, unless both chosen models took part in it."""
        view = self._view
        listed = await asyncio.to_thread(list_evaluations, self._context.database)
        models = next((row.models for row in listed if row.id == questions), (a, b))
        if not {a, b} <= set(models):
            a, b = models[:2]
        description = await self.describe(judge, a, b)
        return {
            view.model_a: a,
            view.model_b: b,
            view.description: description,
            view.prompts: _prompts_update(questions),
        }

    async def begin(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Enqueues the judging run and watches it."""
        view, form = self._view, read_form(JudgeForm, self._view, values)
        if form.mistake:
            return {view.line: notice(form.mistake, "warn")}
        params: dict[str, Any] = {"judge": form.judge, "model_a": form.model_a, "model_b": form.model_b}
        params["rubric"] = form.rubric
        try:
            params |= (
                {"evaluation": form.questions} if form.questions else {"prompts": int(_PROMPTS.read(form.prompts))}
            )
            job_id = await asyncio.to_thread(enqueue, self._context.database, "judge", params)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad")}
        return await self.refresh(form.judge, form.model_a, form.model_b, job_id, form.questions)

    async def stop(self, run: str | None) -> dict[Any, Any]:
        """Cancels the run."""
        if run:
            try:
                await asyncio.to_thread(cancel, self._context.database, run)
            except ParleyError as error:
                return {self._view.line: notice(error.message, "bad")}
        return await self.watch(run)

    async def watch(self, run: str | None) -> dict[Any, Any]:
        """Updates the run's state and report; the timer stops once the run is over."""
        view = self._view
        if not run:
            return {view.line: "", view.result: gr.update(visible=False), view.timer: gr.update(active=False)}
        try:
            job = await asyncio.to_thread(get_job, self._context.database, run)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        update: dict[Any, Any] = {
            view.line: job_status(job),
            view.stop: gr.update(visible=not job.over),
            view.start: gr.update(interactive=job.over),
            view.timer: gr.update(active=not job.over),
            view.result: gr.update(visible=job.status == "succeeded"),
        }
        if job.over:
            runs = await asyncio.to_thread(list_jobs, self._context.database, "judge")
            update[view.runs] = gr.update(choices=_run_options(runs), value=run)
        if job.status == "succeeded" and job.result is not None:
            report = JudgeReport.from_json(job.result)
            figure = report_plot(report)
            update |= {
                view.report: report_html(report),
                view.plot: gr.update(value=figure, visible=figure is not None),
                view.table: report_table(report),
            }
        return update

    def _question_options(self) -> list[tuple[str, str]]:
        """The stored prompts, and the finished evaluations of two or more models."""
        options = [
            (f"{row.task}: {', '.join(row.models)} · {row.created:%Y-%m-%d %H:%M}", row.id)
            for row in list_evaluations(self._context.database)
            if row.finished and len(row.models) > 1
        ]
        return [("stored prompts", STORED), *options]


def describe_judging(models: Sequence[ServedModel], judge: str | None, a: str | None, b: str | None) -> str:
    """What the judge will do, and notices about a toy judge and models that are not ready, as HTML."""
    if not judge or not a or not b:
        return notice("No model is served yet.", "warn")
    by_id = {model.id: model for model in models}
    text = (
        f"<p class='lead'><b>{escape(judge)}</b> reads each question with both answers twice: once with "
        f"{escape(a)} first, once with {escape(b)} first. If the two verdicts differ, the pair counts as a tie.</p>"
    )
    notes = []
    spec = by_id[judge].spec if judge in by_id else None
    if spec is not None and spec.toy:
        notes.append(notice(f"{judge} is a toy that shows how judging works. Do not rely on its verdicts.", "warn"))
    if spec is not None and not spec.judge:
        notes.append(notice(f"{judge} was not trained to judge. Look at its reliability checks.", "warn"))
    if judge in (a, b):
        notes.append(notice("A model cannot judge itself. Choose another judge.", "warn"))
    notes += [
        notice(f"{name} is {by_id[name].state}.", "wait")
        for name in dict.fromkeys((judge, a, b))
        if name in by_id and not by_id[name].ready
    ]
    return text + "".join(notes)


def _prompts_update(questions: str | None) -> dict[str, Any]:
    """The number of prompts applies to stored prompts only: an evaluation is judged as a whole."""
    return gr.update(interactive=not questions)


def _run_options(runs: Sequence[Job]) -> list[tuple[str, str]]:
    return [(_label(job), job.id) for job in runs]


def _label(job: Job) -> str:
    params = job.params
    return (
        f"{job.created:%Y-%m-%d %H:%M} · {params.get('model_a')} against {params.get('model_b')}, "
        f"judged by {params.get('judge')} · {STATUS_LABELS[job.status]}"
    )


def build_judge_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events. Call it inside the tab."""
    with gr.Row(elem_classes="form-row"):
        judge = live_dropdown(label="Judge", elem_id="judge-judge")
        model_a = live_dropdown(label="Model A", elem_id="judge-a")
        model_b = live_dropdown(label="Model B", elem_id="judge-b")
    with gr.Row(elem_classes="form-row"):
        questions = live_dropdown(
            label="Questions (stored prompts, or an evaluation’s answers)", elem_id="judge-questions", scale=2
        )
        prompts = _PROMPTS.component(20, elem_id="judge-prompts")
        rubric = gr.Dropdown(
            [*((rubric.name, rubric.name) for rubric in shipped_rubrics()), _LIKELIHOOD],
            value=DEFAULT_RUBRIC.name, label="Rubric", elem_id="judge-rubric",
        )  # fmt: skip
    description = gr.HTML(elem_id="judge-words")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start judging", variant="primary", size="md", elem_id="judge-start")
        stop = gr.Button("Cancel", size="md", visible=False, elem_id="judge-stop")
    runs = live_dropdown(label="Runs", visible=False, elem_id="judge-runs")
    line = gr.HTML(elem_id="judge-line")
    with gr.Column(visible=False, elem_id="judge-result") as result:
        report = gr.HTML(elem_id="judge-report")
        plot = gr.Plot(show_label=False, container=False, buttons=[])
        table = gr.HTML(elem_id="judge-table")
    view = JudgeView(
        judge, model_a, model_b, prompts, rubric, questions, description, line, start, stop, runs, report, plot, table,
        result, gr.Timer(_REFRESH_S, active=False),
    )  # fmt: skip
    _wire(JudgeTab(context, view), view, tab)


def _wire(judge: JudgeTab, view: JudgeView, tab: gr.Tab) -> None:
    chosen = [view.judge, view.model_a, view.model_b]
    watched = [
        view.runs, view.line, view.stop, view.start, view.timer, view.result, view.report, view.plot, view.table,
    ]  # fmt: skip
    everything = [*chosen, view.questions, view.prompts, view.description, *watched]
    tab.select(judge.refresh, [*chosen, view.runs, view.questions], everything, **QUIET)
    for dropdown in chosen:
        dropdown.input(judge.describe, chosen, view.description, **QUIET)
    filled = [view.model_a, view.model_b, view.description, view.prompts]
    view.questions.input(judge.choose_questions, [*chosen, view.questions], filled, **QUIET)
    view.start.click(judge.begin, form_inputs(JudgeForm, view), everything, trigger_mode="once", **QUIET)
    view.stop.click(judge.stop, [view.runs], watched, **QUIET)
    view.runs.input(judge.watch, [view.runs], watched, **QUIET)
    view.timer.tick(judge.watch, [view.runs], watched, **QUIET)
