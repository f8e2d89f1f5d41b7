"""The Compare tab: two to four models answer the same prompt side by side, with their speed.

A link takes the question to the raters' page, which hides the models' names: a vote on named answers is not blind.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import gradio as gr

from models.chat.messages import Message
from models.errors import Invalid
from ui.backend.answer_figures import figures_html
from ui.backend.answer_settings import ANSWER_LENGTH, TEMPERATURE, request_options, system_messages
from ui.backend.context import PageContext, error_message
from ui.backend.example_questions import example_questions, examples_html
from ui.backend.model_options import model_options, preselected_pair, readiness_banner
from ui.backend.streaming import AnswerRequest, StopSignals, StreamedAnswer, stream_answers
from ui.look.components import QUIET, form_inputs, live_dropdown, read_form
from ui.look.markup import empty_state, notice

_MAX_MODELS = 4
_REFRESH_S = 5


@dataclass(frozen=True)
class Lane:
    """One model's column."""

    column: gr.Column
    head: gr.HTML
    text: gr.Markdown
    foot: gr.HTML


@dataclass(frozen=True)
class CompareForm:
    """What the tab's fields hold when a prompt is sent."""

    prompt: str
    models: list[str] | None
    system: str | None
    temperature: float | None
    max_tokens: float | None


@dataclass(frozen=True)
class CompareView:
    """The components that the handlers read and update."""

    models: gr.Dropdown
    banner: gr.HTML
    line: gr.HTML
    shown: gr.State
    prompt: gr.Textbox
    system: gr.Textbox
    temperature: gr.Number
    max_tokens: gr.Number
    hint: gr.HTML
    examples: gr.HTML
    vote: gr.HTML
    lanes: tuple[Lane, ...]


class CompareTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: CompareView) -> None:
        self._context = context
        self._view = view
        self._signals = StopSignals()

    async def refresh(self, chosen: list[str] | None, shown: Any) -> dict[Any, Any]:
        """Updates the list of models; initially chooses the newest fine-tune and its base.

        `shown` is what the browser has already. If nothing changed, nothing is sent, so that an open list stays open.
        """
        view = self._view
        try:
            models = await asyncio.to_thread(self._context.models)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.banner: notice(error_message(error), "bad")}
        ids = [model.id for model in models]
        valid = [name for name in chosen or [] if name in ids]
        if shown is None and not valid:
            valid = preselected_pair(models)
        now = (model_options(models), valid, readiness_banner(models, *valid))
        if now == shown:
            return {view.shown: now}
        value: dict[str, Any] = {"value": valid} if valid != chosen else {}
        specs = [model.spec for model in models if model.id in valid]
        questions = await asyncio.to_thread(example_questions, self._context.database, specs)
        return {
            view.models: gr.update(choices=now[0], **value),
            view.banner: now[2],
            view.examples: examples_html(questions, "compare-prompt") if valid else "",
            view.shown: now,
        }

    async def send(self, values: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Sends the prompt to all chosen models at once; yields all columns together."""
        view, form = self._view, read_form(CompareForm, self._view, values)
        names = list(dict.fromkeys(form.models or []))[:_MAX_MODELS]
        if not form.prompt or not form.prompt.strip():
            yield {view.line: notice("Type a prompt first.", "warn")}
            return
        if len(names) < 2:
            yield {view.line: notice("Choose at least two models.", "warn")}
            return
        try:
            options = request_options(form.temperature, form.max_tokens)
        except Invalid as error:
            yield {view.line: notice(error.message, "warn")}
            return
        prompt = form.prompt.strip()
        messages = [*system_messages(form.system), Message(role="user", content=prompt)]
        stopped = self._signals.start(request.session_hash)
        yield {
            view.line: "", view.hint: "", view.examples: "", view.vote: "",
            view.prompt: gr.update(submit_btn=False, stop_btn=True),
        } | self._lanes([StreamedAnswer(name) for name in names], first=True)  # fmt: skip
        answers: list[StreamedAnswer] = []
        try:
            requests = [AnswerRequest(self._context.completer(name), messages, options) for name in names]
            async for answers in stream_answers(requests, stopped):
                yield self._lanes(answers)
        finally:
            self._signals.finish(request.session_hash, stopped)
        answered = sum(bool(answer.text) for answer in answers) > 1
        yield {
            view.prompt: gr.update(submit_btn=True, stop_btn=False),
            view.vote: vote_html(prompt) if answered else "",
        }

    async def stop(self, request: gr.Request) -> None:
        """Stops this browser's answers; what has arrived stays."""
        self._signals.stop(request.session_hash)

    def _lanes(self, answers: list[StreamedAnswer], first: bool = False) -> dict[Any, Any]:
        update: dict[Any, Any] = {}
        for index, lane in enumerate(self._view.lanes):
            if index < len(answers):
                answer = answers[index]
                update[lane.text] = answer.text
                update[lane.foot] = figures_html(answer)
                if first:
                    update[lane.column] = gr.update(visible=True)
                    update[lane.head] = f'<div class="lane-name">{escape(answer.model)}</div>'
            elif first:
                update[lane.column] = gr.update(visible=False)
        return update


def vote_html(prompt: str) -> str:
    """A link to a blind vote on this question, as HTML."""
    address = f"/vote/#ask={quote(prompt, safe='')}"
    return (
        f"<p class='lead'><a class='link' href='{address}' target='_blank'>Vote on this question ↗</a> The voting page "
        "hides the models' names and gets answers from two models of the open vote.</p>"
    )


def build_compare_tab(context: PageContext, tab: gr.Tab) -> Callable[[], Awaitable[dict[Any, Any]]]:
    """Lays out the tab and wires its events; returns a function for the page's prefill. Call it inside the tab."""
    models = live_dropdown(
        label="Models (two to four)", multiselect=True, max_choices=_MAX_MODELS, elem_id="compare-models"
    )
    banner = gr.HTML(elem_id="compare-banner")
    prompt = gr.Textbox(
        placeholder="Type one prompt for all models",
        label="Prompt for all models",
        show_label=False,
        container=False,
        lines=1,
        max_lines=8,
        submit_btn=True,
        elem_id="compare-prompt",
        elem_classes="composer",
    )
    with gr.Accordion("Settings", open=False, elem_classes="fold"), gr.Row():
        system = gr.Textbox(label="System prompt", lines=1, max_lines=6, placeholder="None")
        temperature = TEMPERATURE.component(0.7, step=0.05, elem_id="compare-temperature")
        max_tokens = ANSWER_LENGTH.component(512, elem_id="compare-length")
    examples = gr.HTML(elem_id="compare-examples")
    line = gr.HTML(elem_id="compare-line")
    hint = gr.HTML(
        empty_state(
            "One prompt, several answers",
            "The answers appear side by side, each with its time to the first token and its tokens per second.",
        )
    )
    lanes = []
    with gr.Row(elem_classes="lanes"):
        for index in range(_MAX_MODELS):
            with gr.Column(visible=False, min_width=240, elem_classes="lane") as column:
                head = gr.HTML()
                text = gr.Markdown(elem_classes="answer", elem_id=f"compare-answer-{index + 1}")
                foot = gr.HTML(elem_id=f"compare-speed-{index + 1}")
            lanes.append(Lane(column, head, text, foot))
    vote = gr.HTML(elem_id="compare-vote")
    shown = gr.State(None)
    view = CompareView(
        models, banner, line, shown, prompt, system, temperature, max_tokens, hint, examples, vote, tuple(lanes)
    )
    compare = CompareTab(context, view)
    columns = [part for lane in lanes for part in (lane.column, lane.head, lane.text, lane.foot)]
    answered = [line, prompt, hint, examples, vote, *columns]
    prompt.submit(compare.send, form_inputs(CompareForm, view), answered, concurrency_limit=None, **QUIET)
    prompt.stop(compare.stop, None, None, **QUIET)
    states = [models, banner, examples, shown]
    models.input(compare.refresh, [models, shown], states, **QUIET)
    gr.Timer(_REFRESH_S).tick(compare.refresh, [models, shown], states, **QUIET)
    tab.select(compare.refresh, [models, shown], states, **QUIET)
    return lambda: compare.refresh([], None)
