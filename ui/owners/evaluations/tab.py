"""The Evaluations tab: the form that starts an evaluation, and the reports of finished ones.

A report is the same HTML file that `--html` writes, in a frame that may run no script: it quotes what models wrote.
The frame has the page's origin, so that page.js can set its height and its light or dark mode.
"""

import asyncio
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from evals.reports.evaluation_html import report_html
from evals.tasks.evaluations import EvaluationEntry, list_evaluations, load_evaluation
from evals.tasks.summaries import against_first, diff, overview
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, form_inputs, live_dropdown
from ui.look.markup import empty_state, notice
from ui.owners.evaluations.form import EvaluationForm, EvaluationStarter, build_evaluation_form

_EMPTY = empty_state(
    "No evaluation yet",
    "Start one above, or in a terminal: <code>parley eval run faq.jsonl --models a,b "
    "--scorers exact,length:5-60</code>",
)


@dataclass(frozen=True)
class EvaluationsView:
    """The components that the handlers update."""

    which: gr.Dropdown
    report: gr.HTML


class EvaluationsTab:
    """The handlers of the reports. One instance serves every browser."""

    def __init__(self, context: PageContext, view: EvaluationsView) -> None:
        self._context = context
        self._view = view

    async def refresh(self, current: str | None) -> dict[Any, Any]:
        """Updates the list, and shows the chosen report, or the newest if none is chosen."""
        view = self._view
        try:
            listed = await asyncio.to_thread(list_evaluations, self._context.database)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.report: notice(error_message(error), "bad")}
        done = [row for row in listed if row.finished]
        if not done:
            return {view.which: gr.update(choices=[], value=None, visible=False), view.report: _EMPTY}
        ids = [row.id for row in done]
        chosen = current if current in ids else ids[0]
        choices = [(evaluation_label(row), row.id) for row in done]
        return {view.which: gr.update(choices=choices, value=chosen, visible=True)} | await self.show(chosen)

    async def show(self, chosen: str | None) -> dict[Any, Any]:
        """Shows one evaluation's report."""
        if not chosen:
            return {self._view.report: gr.update()}
        try:
            return {self._view.report: await asyncio.to_thread(self._frame, chosen)}
        except Exception as error:  # as above
            return {self._view.report: notice(error_message(error), "bad")}

    def _frame(self, chosen: str) -> str:
        evaluation = load_evaluation(self._context.database, chosen)
        pairs = against_first(evaluation)
        text = report_html(evaluation, overview(evaluation), diff(pairs) if pairs else None)
        title = escape(f"Evaluation of {evaluation.task}", quote=True)
        return (
            f"<iframe class='report' sandbox='allow-same-origin' scrolling='no' title='{title}' "
            f"srcdoc='{escape(text, quote=True)}'></iframe>"
        )


def evaluation_label(row: EvaluationEntry) -> str:
    """An evaluation in a dropdown: its task, its models and when it started."""
    return f"{row.task}: {', '.join(row.models)} · {row.created:%Y-%m-%d %H:%M}"


def build_evaluations_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events; it is filled when it is opened. Call it inside the tab."""
    gr.HTML(
        "<p class='lead'>Give several models the same questions and score their answers. Use it to find wrong answers; "
        "use blind votes to find out which answers people prefer.</p>"
    )
    with gr.Accordion("New evaluation", open=True, elem_classes="fold", elem_id="evaluate"):
        form = build_evaluation_form()
    with gr.Row(elem_classes="tools"):
        which = live_dropdown(label="Report", elem_id="evaluation")
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="evaluations-refresh")
    report = gr.HTML(elem_id="evaluation-report")
    evaluations = EvaluationsTab(context, EvaluationsView(which, report))
    starter = EvaluationStarter(context, form)

    async def watch(run: str | None, current: str | None) -> dict[Any, Any]:
        """Updates the run's state, and shows its report once there is one."""
        update, made = await starter.watch(run), await starter.result(run)
        return update | (await evaluations.refresh(made) if made and made != current else {})

    filled = [*form.lists, *form.watched]
    tab.select(starter.refresh, form.lists, filled, **QUIET)
    tab.select(evaluations.refresh, [which], [which, report], **QUIET)
    form.uploaded.click(starter.refresh_after_upload, [form.models, form.judge, form.scorers], filled, **QUIET)
    form.task.input(starter.suggest_scorers, [form.task, form.scorers], [form.scorers], **QUIET)
    form.start.click(starter.begin, form_inputs(EvaluationForm, form), form.watched, trigger_mode="once", **QUIET)
    form.stop.click(starter.stop, [form.run], form.watched, **QUIET)
    form.timer.tick(watch, [form.run, which], [*form.watched, which, report], **QUIET)
    again.click(evaluations.refresh, [which], [which, report], **QUIET)
    which.input(evaluations.show, [which], [report], **QUIET)
