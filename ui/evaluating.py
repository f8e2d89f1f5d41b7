"""The form of the Evaluations tab: a task's file, models, scorers, a judge. It enqueues, watches and cancels.

The work is the worker's (`evals.jobs`). `ui.evaluations` and `evals.reports.evaluation_html` lay out the report.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.jobs import EVALUATE
from evals.judges.rubric import shipped_rubrics
from evals.scorers.catalog import catalog, check_names, split_names
from evals.tasks.task import Task
from evals.tasks.task_sources import open_task
from evals.votes.prompts import prompts
from models.errors import Invalid, ParleyError
from models.files import Files
from models.jobs import Job, cancel, enqueue, get_job, list_jobs
from models.judge_format import DEFAULT_RUBRIC
from ui.choices import entries, notice
from ui.room import Room, friendly
from ui.uploads import TASK_SUFFIXES, TASKS, file_entry, named_path
from ui.wiring import live_list

EVERY_S = 1.5
_STORED = {"prompts": "The stored prompts", "prompts:held-out": "The stored prompts, held out"}
_NOBODY = ""
_DROP = f"""
<label id="evaluate-drop" class="drop small" for="evaluate-file" tabindex="0" data-purpose="{TASKS}"
data-came="evaluate-uploaded">
<span><b>Drop a task</b> or choose one: {", ".join(TASK_SUFFIXES)}, a question a row, as <code>input</code> and
<code>expected</code>, or <code>turns</code>. <em id="evaluate-sent" role="status"></em></span>
<input id="evaluate-file" type="file" accept="{",".join(TASK_SUFFIXES)}"></label>
"""


@dataclass(frozen=True)
class FormView:
    """The components of the form."""

    task: gr.Dropdown
    models: gr.Dropdown
    scorers: gr.Dropdown
    judge: gr.Dropdown
    rubric: gr.Dropdown
    limit: gr.Textbox
    tokens: gr.Textbox
    skip: gr.Checkbox
    came: gr.Button
    start: gr.Button
    stop: gr.Button
    line: gr.HTML
    run: gr.State
    timer: gr.Timer

    @property
    def asked(self) -> list[Any]:
        """What a person fills in, in the order of `Evaluating.begin`."""
        return [
            self.task, self.models, self.scorers, self.judge, self.rubric, self.limit, self.tokens, self.skip,
        ]  # fmt: skip

    @property
    def lists(self) -> list[Any]:
        """What is filled when the tab opens."""
        return [self.task, self.models, self.judge]

    @property
    def watched(self) -> list[Any]:
        """What follows a run."""
        return [self.line, self.start, self.stop, self.run, self.timer]


class Evaluating:
    """What the form does. One instance serves every browser."""

    def __init__(self, room: Room, view: FormView) -> None:
        self._room = room
        self._view = view

    async def refresh(self, task: str | None, models: Sequence[str] | None, judge: str | None) -> dict[Any, Any]:
        """The tasks and models as they are now, and the run that goes on where there is one."""
        view = self._view
        try:
            tasks, served, runs = await asyncio.gather(
                asyncio.to_thread(self._tasks),
                asyncio.to_thread(self._room.models),
                asyncio.to_thread(list_jobs, self._room.database, EVALUATE, 1),
            )
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return {view.line: notice(friendly(error), "bad")}
        known = [model.id for model in served]
        players = [model.id for model in served if model.ready and not model.spec.judge]
        chosen = [name for name in models or () if name in known] or players[:2]
        judges = sorted(served, key=lambda model: not model.spec.judge)
        update = {
            view.task: gr.update(choices=tasks, value=_kept(task, [value for _, value in tasks])),
            view.models: gr.update(choices=entries(served), value=chosen),
            view.judge: gr.update(
                choices=[("no judge", _NOBODY), *entries(judges)], value=judge if judge in known else _NOBODY
            ),
        }
        return update | await self.watch(runs[0].id if runs and not runs[0].over else None)

    async def uploaded(self, models: Sequence[str] | None, judge: str | None) -> dict[Any, Any]:
        """A file has come: the newest one is chosen, and what was wrong with another is forgotten."""
        return {self._view.line: ""} | await self.refresh(None, models, judge)

    async def begin(
        self,
        task: str | None,
        models: Sequence[str] | None,
        scorers: Sequence[str] | None,
        judge: str | None,
        rubric: str,
        limit: str,
        tokens: str,
        skip: bool,
    ) -> dict[Any, Any]:
        """Enqueue the evaluation and watch it; what is wrong with it is said before."""
        try:
            names = split_names(list(scorers or ())) + ([f"judge:{judge}@{rubric}"] if judge else [])
            params = await asyncio.to_thread(self._params, task, list(models or ()), names, limit, tokens, skip)
            job_id = await asyncio.to_thread(enqueue, self._room.database, EVALUATE, params)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "warn")}
        return await self.watch(job_id)

    async def stop(self, run: str | None) -> dict[Any, Any]:
        """Cancel the run: its worker hears of it within seconds. What was answered is kept."""
        if run:
            await asyncio.to_thread(cancel, self._room.database, run)
        return await self.watch(run)

    async def watch(self, run: str | None) -> dict[Any, Any]:
        """The run as it stands; its timer stops when nothing will happen any more."""
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
            job = await asyncio.to_thread(get_job, self._room.database, run)
        except ParleyError as error:
            return {view.line: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        return {
            view.line: progress_html(job),
            view.start: gr.update(interactive=job.over),
            view.stop: gr.update(visible=not job.over),
            view.run: run,
            view.timer: gr.update(active=not job.over),
        }

    async def made(self, run: str | None) -> str | None:
        """The evaluation that a run became; None while it goes on, or where it failed."""
        if not run:
            return None
        job = await asyncio.to_thread(get_job, self._room.database, run)
        return (job.result or {}).get("evaluation") if job.status == "succeeded" else None

    def _tasks(self) -> list[tuple[str, str]]:
        files = Files(self._room.settings, self._room.database).list(TASKS)
        found = [(file_entry(file), file.id) for file in files]
        stored = prompts(self._room.database)
        if stored:
            found.append((f"{_STORED['prompts']} ({len(stored)})", "prompts"))
        held_out = sum(prompt.held_out for prompt in stored)
        if held_out:
            found.append((f"{_STORED['prompts:held-out']} ({held_out})", "prompts:held-out"))
        return found

    def _params(
        self, task: str | None, models: list[str], scorers: list[str], limit: str, tokens: str, skip: bool
    ) -> dict[str, Any]:
        """The job's, checked as far as can be without asking a model."""
        if not task:
            raise Invalid("Drop a task's file first.", param="task")
        if not models:
            raise Invalid("Choose one model at least; the others are held against the first.", param="models")
        check_names(scorers)
        typed = task if task in _STORED else str(named_path(self._room, task))
        found: Task = open_task(typed, self._room.database, self._room.settings.runs_dir)
        if found.bad and not skip:
            total, first = len(found.bad) + len(found.samples), str(found.bad[0])
            raise Invalid(
                f"Not all of its {total} rows can be read, {len(found.bad)} cannot. {first[:1].upper()}{first[1:]} "
                "Or tick «Leave unreadable rows out».",
                param="task",
            )
        return {
            "task": typed,
            "name": found.name,
            "models": models,
            "scorers": scorers,
            "limit": _whole(limit, "Samples"),
            "max_tokens": _whole(tokens, "Longest answer"),
            "skip_bad": skip,
        }


def progress_html(job: Job) -> str:
    """Where a run is, in a line or a bar. HTML."""
    if job.status == "succeeded":
        return ""
    if job.status == "failed":
        return notice(f"This run failed: {job.error or job.message or 'no reason was left'}", "bad")
    if job.status == "cancelled":
        return notice("This run was cancelled. What was answered is kept: started again, it goes on.", "warn")
    share = max(2.0, 100 * job.progress)
    return (
        f"<div class='job'><b>{100 * job.progress:.0f} %</b>"
        f"<div class='progress'><i style='width:{share:.0f}%'></i></div><p>{escape(job.message or 'running')}</p></div>"
    )


def evaluation_form() -> FormView:
    """Lay out the form. Call inside the tab."""
    with gr.Row(elem_classes="form-row"):
        task = live_list(label="Task", elem_id="evaluate-task")
        models = live_list(label="Models, the first is what the others are held against", multiselect=True,
                           elem_id="evaluate-models", scale=2)  # fmt: skip
    gr.HTML(_DROP)
    came = gr.Button(elem_id="evaluate-uploaded", elem_classes="offstage")
    with gr.Row(elem_classes="form-row"):
        plain = [kind.name for kind in catalog() if ":" not in kind.typed.replace("[", "").replace(":3]", "")]
        scorers = gr.Dropdown(
            [*plain, "length:5-60"], value=["includes", "length:5-60"], multiselect=True, allow_custom_value=True,
            label="Scorers; others can be typed, such as regex:^Yes", elem_id="evaluate-scorers", scale=2,
        )  # fmt: skip
        judge = live_list(label="Graded by", elem_id="evaluate-judge")
        rubric = gr.Dropdown(
            [one.name for one in shipped_rubrics()], value=DEFAULT_RUBRIC.name, label="Rubric",
            elem_id="evaluate-rubric",
        )  # fmt: skip
    with gr.Row(elem_classes="form-row numbers"):
        limit = gr.Textbox("all", label="Samples", max_lines=1, min_width=120, elem_id="evaluate-limit")
        tokens = gr.Textbox("512", label="Longest answer, tokens", max_lines=1, min_width=120,
                            elem_id="evaluate-tokens")  # fmt: skip
        skip = gr.Checkbox(False, label="Leave unreadable rows out", min_width=200, elem_id="evaluate-skip")
    line = gr.HTML(elem_id="evaluate-line")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start evaluating", variant="primary", size="md", elem_id="evaluate-start")
        stop = gr.Button("Cancel", size="md", visible=False, elem_id="evaluate-stop")
    return FormView(
        task, models, scorers, judge, rubric, limit, tokens, skip, came, start, stop, line, gr.State(None),
        gr.Timer(EVERY_S, active=False),
    )  # fmt: skip


def _kept(value: str | None, known: Sequence[str]) -> str | None:
    return value if value in known else (known[0] if known else None)


def _whole(typed: str, what: str) -> int | None:
    """A number of one or more; None for «all» or nothing."""
    text = str(typed or "").strip().lower()
    if text in ("", "all"):
        return None
    if not text.isdecimal() or int(text) < 1:
        raise Invalid(f"{what} is a whole number from 1, or all: {text[:20]!r} is none.")
    return int(text)
