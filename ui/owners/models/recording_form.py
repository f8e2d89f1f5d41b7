"""The form on the Models tab that records a model's answers: it shows the cost, then starts a job with a limit."""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from evals.jobs import RECORD, planned_recording
from models.errors import Invalid, NotFound
from models.jobs.jobs import enqueue
from models.quantities import count_noun
from models.usage import has_price
from train.planning.pricing import find_price
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, form_inputs, read_form
from ui.look.markup import notice


@dataclass(frozen=True)
class RecordingForm:
    """What the form holds; `which` is the tab's chosen model."""

    which: str | None
    prompts: str
    samples: float
    max_cost: str


@dataclass(frozen=True)
class RecordingView:
    """The components that the handlers read and update."""

    which: gr.Dropdown
    prompts: gr.Textbox
    samples: gr.Number
    max_cost: gr.Textbox
    line: gr.HTML


class RecordingHandlers:
    """The form's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: RecordingView) -> None:
        self._context, self._view = context, view

    async def show_cost(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """The maximum cost of the recording; no request is sent."""
        return await self._line(self._cost, values)

    async def record(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Starts the job that records."""
        return await self._line(self._start, values)

    async def _line(self, handle: Any, values: dict[Any, Any]) -> dict[Any, Any]:
        try:
            text = await asyncio.to_thread(handle, read_form(RecordingForm, self._view, values))
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {self._view.line: notice(error_message(error), "warn")}
        return {self._view.line: notice(text, "good")}

    def _cost(self, form: RecordingForm) -> str:
        request, plan = planned_recording(self._context.settings, self._context.database, self._params(form))
        stored = f" {count_noun(plan.stored, 'answer is', 'answers are')} already recorded." if plan.stored else ""
        return f"{request.spec.id}: {plan.left.text}{stored}"

    def _start(self, form: RecordingForm) -> str:
        params = self._params(form)
        request, plan = planned_recording(self._context.settings, self._context.database, params)
        if not plan.left.requests:
            return f"{count_noun(plan.stored, 'answer of', 'answers of')} {request.spec.id}: all are already recorded."
        if request.max_usd is None and (not has_price(request.spec) or plan.left.usd):
            raise Invalid(f"{plan.left.text} Set a limit in US dollars first.")
        enqueue(self._context.database, RECORD, params)
        return f"Recording of {request.spec.id} has started. {plan.left.text}"

    def _params(self, form: RecordingForm) -> dict[str, Any]:
        """The job's parameters, with the provider's prices if they are known."""
        params = _params(form)
        upstream = self._context.registry.resolve(params["model"]).upstream
        if upstream is None:
            return params
        try:
            price = find_price(upstream.model)
        except NotFound:
            return params
        return params | ({"prices": [price.input, price.output]} if None not in (price.input, price.output) else {})


def build_recording_form(context: PageContext, which: gr.Dropdown) -> None:
    """Lays out the form for the chosen model and wires its events. Call it inside the tab."""
    with gr.Accordion(
        "Record its answers before it is switched off", open=False, elem_classes="fold", elem_id="models-record-form"
    ):
        with gr.Row(elem_classes="form-row numbers"):
            prompts = gr.Textbox(
                label="Prompts: held-out, all, or a category", value="held-out", max_lines=1,
                elem_id="models-record-prompts",
            )  # fmt: skip
            samples = gr.Number(label="Answers to each prompt", value=3, precision=0, elem_id="models-record-samples")
            max_cost = gr.Textbox(
                label="Stop at US$", placeholder="required if it costs something", max_lines=1,
                elem_id="models-record-limit",
            )  # fmt: skip
        with gr.Row(elem_classes="under"):
            cost = gr.Button("Show the cost", size="md", elem_id="models-record-cost")
            record = gr.Button("Record", variant="primary", size="md", elem_id="models-record")
        line = gr.HTML(elem_id="models-record-line")
    view = RecordingView(which=which, prompts=prompts, samples=samples, max_cost=max_cost, line=line)
    handlers, inputs = RecordingHandlers(context, view), form_inputs(RecordingForm, view)
    cost.click(handlers.show_cost, inputs, [line], **QUIET)
    record.click(handlers.record, inputs, [line], trigger_mode="once", **QUIET)


def _params(form: RecordingForm) -> dict[str, Any]:
    if not form.which:
        raise Invalid("Choose a model first.")
    limit = (form.max_cost or "").replace("$", "").replace(",", "").strip()
    try:
        max_cost = float(limit) if limit else None
    except ValueError:
        raise Invalid(f"{form.max_cost!r} is not an amount: use US dollars, such as 5.00.") from None
    prompts = form.prompts.strip() or "held-out"
    return {"model": form.which, "prompts": prompts, "samples": int(form.samples or 3), "max_cost": max_cost}
