"""The Judge tab: a model judges two others over a prompt set, as a job. It enqueues, watches and shows.

The work is the worker's (`evals.jobs`); how a finished report looks is in `ui.owners.judge.html`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.judges.report import JudgeReport
from evals.judges.rubric import shipped_rubrics
from evals.tasks.evaluations import list_evaluations
from models.errors import ParleyError
from models.jobs import Job, cancel, enqueue, get_job, list_jobs
from models.judge_format import DEFAULT_RUBRIC
from ui.backend.context import Room, ServedModel, friendly
from ui.backend.model_options import entries, notice, picked
from ui.look.components import QUIET, live_list
from ui.owners.judge.html import report_plot, report_table, report_words

STORED = ""  # the questions are the stored prompts
_EVERY_S = 1.5
_WORDS = {
    "queued": "waiting for the worker",
    "running": "running",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True)
class JudgeView:
    """The components that the handlers fill."""

    judge: gr.Dropdown
    model_a: gr.Dropdown
    model_b: gr.Dropdown
    prompts: gr.Slider
    rubric: gr.Dropdown
    questions: gr.Dropdown
    words: gr.HTML
    line: gr.HTML
    start: gr.Button
    stop: gr.Button
    runs: gr.Dropdown
    report: gr.HTML
    plot: gr.Plot
    table: gr.HTML
    result: gr.Column
    timer: gr.Timer


class Judge:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: JudgeView) -> None:
        self._room = room
        self._view = view

    async def refresh(
        self, judge: str | None, a: str | None, b: str | None, run: str | None, questions: str | None = None
    ) -> dict[Any, Any]:
        """The models and the runs as they are now; the latest run is shown where none is chosen."""
        view = self._view
        try:
            models = await asyncio.to_thread(self._room.models)
            runs = await asyncio.to_thread(list_jobs, self._room.database, "judge")
            asked = await asyncio.to_thread(self._questions)
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return {view.line: notice(friendly(error), "bad")}
        judges = sorted(models, key=lambda model: not model.spec.judge)
        players = sorted(models, key=lambda model: (model.spec.judge, not model.ready))
        judge, a, b = picked(judges, judge), picked(players, a), picked(players, b, position=1)
        run = run if any(job.id == run for job in runs) else (runs[0].id if runs else None)
        update = {
            view.judge: gr.update(choices=entries(judges), value=judge),
            view.model_a: gr.update(choices=entries(players), value=a),
            view.model_b: gr.update(choices=entries(players), value=b),
            view.questions: gr.update(
                choices=asked, value=questions if questions in [value for _, value in asked] else STORED
            ),
            view.prompts: _how_many(questions if questions in [value for _, value in asked] else STORED),
            view.words: in_words(models, judge, a, b),
            view.runs: gr.update(choices=_entries(runs), value=run, visible=bool(runs)),
        }
        return update | await self.watch(run)

    async def explain(self, judge: str | None, a: str | None, b: str | None) -> str:
        """Who judges whom, in words."""
        return in_words(await asyncio.to_thread(self._room.models), judge, a, b)

    async def take(self, judge: str | None, a: str | None, b: str | None, questions: str | None) -> dict[Any, Any]:
        """An evaluation was chosen: its first two models are, unless both that are chosen are in it."""
        view = self._view
        listed = await asyncio.to_thread(list_evaluations, self._room.database)
        models = next((row.models for row in listed if row.id == questions), (a, b))
        if not {a, b} <= set(models):
            a, b = models[:2]
        words = await self.explain(judge, a, b)
        return {view.model_a: a, view.model_b: b, view.words: words, view.prompts: _how_many(questions)}

    async def begin(
        self,
        judge: str | None,
        a: str | None,
        b: str | None,
        prompts: float,
        rubric: str,
        questions: str | None = None,
    ) -> dict[Any, Any]:
        """Enqueue the job and watch it."""
        view = self._view
        wrong = _wrong(judge, a, b)
        if wrong:
            return {view.line: notice(wrong, "warn")}
        params: dict[str, Any] = {"judge": judge, "model_a": a, "model_b": b, "rubric": rubric}
        params |= {"evaluation": questions} if questions else {"prompts": int(prompts)}
        try:
            job_id = await asyncio.to_thread(enqueue, self._room.database, "judge", params)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad")}
        return await self.refresh(judge, a, b, job_id, questions)

    async def stop(self, run: str | None) -> dict[Any, Any]:
        """Cancel the job that is shown."""
        if run:
            try:
                await asyncio.to_thread(cancel, self._room.database, run)
            except ParleyError as error:
                return {self._view.line: notice(error.message, "bad")}
        return await self.watch(run)

    async def watch(self, run: str | None) -> dict[Any, Any]:
        """The chosen run as it stands; its timer stops when nothing will happen any more."""
        view = self._view
        if not run:
            return {view.line: "", view.result: gr.update(visible=False), view.timer: gr.update(active=False)}
        try:
            job = await asyncio.to_thread(get_job, self._room.database, run)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        update: dict[Any, Any] = {
            view.line: _progress(job),
            view.stop: gr.update(visible=not job.over),
            view.start: gr.update(interactive=job.over),
            view.timer: gr.update(active=not job.over),
            view.result: gr.update(visible=job.status == "succeeded"),
        }
        if job.over:
            runs = await asyncio.to_thread(list_jobs, self._room.database, "judge")
            update[view.runs] = gr.update(choices=_entries(runs), value=run)
        if job.status == "succeeded" and job.result is not None:
            report = JudgeReport.from_json(job.result)
            figure = report_plot(report)
            update |= {
                view.report: report_words(report),
                view.plot: gr.update(value=figure, visible=figure is not None),
                view.table: report_table(report),
            }
        return update

    def _questions(self) -> list[tuple[str, str]]:
        """The stored prompts, and the finished evaluations of two models or more."""
        found = [
            (f"{row.task}: {', '.join(row.models)} · {row.created:%Y-%m-%d %H:%M}", row.id)
            for row in list_evaluations(self._room.database)
            if row.finished and len(row.models) > 1
        ]
        return [("the stored prompts", STORED), *found]


def in_words(models: Sequence[ServedModel], judge: str | None, a: str | None, b: str | None) -> str:
    """Who judges whom, whether the judge is a toy or of one of the players' family, and what is not ready. HTML."""
    if not judge or not a or not b:
        return notice("No model is served yet.", "warn")
    by_id = {model.id: model for model in models}
    said = (
        f"<p class='lead'><b>{escape(judge)}</b> reads each question with both answers, twice: once with "
        f"{escape(a)} first, once with {escape(b)} first. Where the two readings disagree, it counts as a tie.</p>"
    )
    notes = []
    spec = by_id[judge].spec if judge in by_id else None
    if spec is not None and spec.toy:
        notes.append(
            notice(f"{judge} is a toy: it shows how judging works here, and its word decides nothing.", "warn")
        )
    if spec is not None and not spec.judge:
        notes.append(notice(f"{judge} was not trained to judge. See whether its canaries pass.", "warn"))
    if judge in (a, b):
        notes.append(notice("A model that judges itself is not believed. Choose another judge.", "warn"))
    notes += [
        notice(f"{name} is {by_id[name].state}.", "wait")
        for name in dict.fromkeys((judge, a, b))
        if name in by_id and not by_id[name].ready
    ]
    return said + "".join(notes)


def _how_many(questions: str | None) -> dict[str, Any]:
    """How many prompts is asked of the stored ones alone: an evaluation is judged whole."""
    return gr.update(interactive=not questions)


def _wrong(judge: str | None, a: str | None, b: str | None) -> str:
    if not judge or not a or not b:
        return "Choose a judge and two models."
    if a == b:
        return "Choose two different models: there is nothing to compare."
    if judge in (a, b):
        return "A model cannot judge itself. Choose another judge."
    return ""


def _entries(runs: Sequence[Job]) -> list[tuple[str, str]]:
    return [(_entry(job), job.id) for job in runs]


def _entry(job: Job) -> str:
    params = job.params
    return (
        f"{job.created:%Y-%m-%d %H:%M} · {params.get('model_a')} against {params.get('model_b')}, "
        f"judged by {params.get('judge')} · {_WORDS[job.status]}"
    )


def _progress(job: Job) -> str:
    if job.status == "succeeded":
        return ""
    if job.status == "failed":
        return notice(f"This run failed: {job.error or job.message or 'no reason was left'}", "bad")
    if job.status == "cancelled":
        return notice("This run was cancelled.", "warn")
    share = max(2.0, 100 * job.progress)
    message = job.message or _WORDS[job.status]
    return (
        f"<div class='job'><b>{100 * job.progress:.0f} %</b>"
        f"<div class='progress'><i style='width:{share:.0f}%'></i></div><p>{escape(message)}</p></div>"
    )


def judge_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it. Call inside the tab."""
    with gr.Row(elem_classes="form-row"):
        judge = live_list(label="Judge", elem_id="judge-judge")
        model_a = live_list(label="Model A", elem_id="judge-a")
        model_b = live_list(label="Model B", elem_id="judge-b")
    with gr.Row(elem_classes="form-row"):
        questions = live_list(
            label="Questions: stored prompts, or the answers of an evaluation", elem_id="judge-questions", scale=2
        )
        prompts = gr.Slider(5, 200, value=20, step=5, label="Prompts", elem_id="judge-prompts")
        rubric = gr.Dropdown(
            [one.name for one in shipped_rubrics()], value=DEFAULT_RUBRIC.name, label="Rubric", elem_id="judge-rubric"
        )
    words = gr.HTML(elem_id="judge-words")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start judging", variant="primary", size="md", elem_id="judge-start")
        stop = gr.Button("Cancel", size="md", visible=False, elem_id="judge-stop")
    runs = live_list(label="Runs", visible=False, elem_id="judge-runs")
    line = gr.HTML(elem_id="judge-line")
    with gr.Column(visible=False, elem_id="judge-result") as result:
        report = gr.HTML(elem_id="judge-report")
        plot = gr.Plot(show_label=False, container=False, buttons=[])
        table = gr.HTML(elem_id="judge-table")
    timer = gr.Timer(_EVERY_S, active=False)
    view = JudgeView(
        judge,
        model_a,
        model_b,
        prompts,
        rubric,
        questions,
        words,
        line,
        start,
        stop,
        runs,
        report,
        plot,
        table,
        result,
        timer,
    )
    handlers = Judge(room, view)
    chosen = [judge, model_a, model_b]
    watched = [runs, line, stop, start, timer, result, report, plot, table]
    everything = [*chosen, questions, prompts, words, *watched]
    tab.select(handlers.refresh, [*chosen, runs, questions], everything, **QUIET)
    for one in chosen:
        one.input(handlers.explain, chosen, words, **QUIET)
    questions.input(handlers.take, [*chosen, questions], [model_a, model_b, words, prompts], **QUIET)
    start.click(handlers.begin, [*chosen, prompts, rubric, questions], everything, trigger_mode="once", **QUIET)
    stop.click(handlers.stop, [runs], watched, **QUIET)
    runs.input(handlers.watch, [runs], watched, **QUIET)
    timer.tick(handlers.watch, [runs], watched, **QUIET)
