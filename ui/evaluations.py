"""The Evaluations tab: a form that starts one (`ui.evaluating`), and those that there are, one at a time.

The report is the very file that `--html` writes, in a frame that may run no script: it holds what models wrote.
"""

import asyncio
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.reports.evaluation_html import report_html
from evals.tasks.evaluations import EvaluationEntry, list_evaluations, load_evaluation
from evals.tasks.summaries import against_first, diff, overview
from ui.choices import notice
from ui.evaluating import Evaluating, evaluation_form
from ui.room import Room, friendly
from ui.wiring import QUIET, live_list

_NOTHING = (
    "<div class='quiet'><b>No evaluation yet</b><span>Start one above, or in a terminal: <code>parley eval run "
    "faq.jsonl --models a,b --scorers exact,length:5-60</code></span></div>"
)


@dataclass(frozen=True)
class EvaluationsView:
    """The components that the handlers fill."""

    which: gr.Dropdown
    report: gr.HTML


class Evaluations:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: EvaluationsView) -> None:
        self._room = room
        self._view = view

    async def refresh(self, current: str | None) -> dict[Any, Any]:
        """The list as it is now, and the report of the chosen one; of the newest where none is chosen."""
        view = self._view
        try:
            listed = await asyncio.to_thread(list_evaluations, self._room.database)
        except Exception as error:  # a fault is a line on the page, not a pop-up
            return {view.report: notice(friendly(error), "bad")}
        done = [row for row in listed if row.finished]
        if not done:
            return {view.which: gr.update(choices=[], value=None, visible=False), view.report: _NOTHING}
        ids = [row.id for row in done]
        chosen = current if current in ids else ids[0]
        choices = [(_entry(row), row.id) for row in done]
        return {view.which: gr.update(choices=choices, value=chosen, visible=True)} | await self.show(chosen)

    async def show(self, chosen: str | None) -> dict[Any, Any]:
        """One evaluation's report."""
        if not chosen:
            return {self._view.report: gr.update()}
        try:
            return {self._view.report: await asyncio.to_thread(self._framed, chosen)}
        except Exception as error:  # as above
            return {self._view.report: notice(friendly(error), "bad")}

    def _framed(self, chosen: str) -> str:
        evaluation = load_evaluation(self._room.database, chosen)
        pairs = against_first(evaluation)
        text = report_html(evaluation, overview(evaluation), diff(pairs) if pairs else None)
        title = escape(f"Evaluation of {evaluation.task}", quote=True)
        return (
            f"<iframe sandbox title='{title}' srcdoc='{escape(text, quote=True)}' "
            "style='width:100%;height:78vh;border:0;border-radius:8px'></iframe>"
        )


def evaluations_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; it is filled when it is opened. Call inside the tab."""
    gr.HTML(
        "<p class='lead'>Ask models the questions of a task, score the answers, and compare the models question by "
        "question. Blind votes say which answer people like; a task says which is right.</p>"
    )
    with gr.Accordion("Run an evaluation", open=True, elem_classes="fold", elem_id="evaluate"):
        form = evaluation_form()
    with gr.Row(elem_classes="tools"):
        which = live_list(label="Evaluation", elem_id="evaluation")
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="evaluations-refresh")
    report = gr.HTML(elem_id="evaluation-report")
    evaluations = Evaluations(room, EvaluationsView(which, report))
    evaluating = Evaluating(room, form)

    async def watch(run: str | None, current: str | None) -> dict[Any, Any]:
        """The run as it stands, and its report once there is one."""
        update, made = await evaluating.watch(run), await evaluating.made(run)
        return update | (await evaluations.refresh(made) if made and made != current else {})

    filled = [*form.lists, *form.watched]
    tab.select(evaluating.refresh, form.lists, filled, **QUIET)
    tab.select(evaluations.refresh, [which], [which, report], **QUIET)
    form.came.click(evaluating.uploaded, [form.models, form.judge], filled, **QUIET)
    form.start.click(evaluating.begin, form.asked, form.watched, trigger_mode="once", **QUIET)
    form.stop.click(evaluating.stop, [form.run], form.watched, **QUIET)
    form.timer.tick(watch, [form.run, which], [*form.watched, which, report], **QUIET)
    again.click(evaluations.refresh, [which], [which, report], **QUIET)
    which.input(evaluations.show, [which], [report], **QUIET)


def _entry(row: EvaluationEntry) -> str:
    return f"{row.task}: {', '.join(row.models)} · {row.created:%Y-%m-%d %H:%M}"
