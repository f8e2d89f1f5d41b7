"""The Chat tab: a conversation with one model: stop, regenerate, edit a message, settings, figures, a transcript.

The browser stores the conversations (chat.js); the server stores only those with a rated answer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid
from ui.backend.answer_figures import figures_html
from ui.backend.answer_settings import ANSWER_LENGTH, TEMPERATURE, request_options
from ui.backend.context import PageContext, error_message
from ui.backend.conversation import Turns, edited_turns, plain_turns, to_messages, without_last_answer
from ui.backend.example_questions import example_questions, examples_html
from ui.backend.model_options import describe_model, model_options, preselected_model, readiness_banner
from ui.backend.ratings import RatedPlace, store_rating, thumbs
from ui.backend.streaming import AnswerRequest, StopSignals, StreamedAnswer, stream_answers
from ui.look.components import BROWSER_ONLY, QUIET, form_inputs, live_dropdown, read_form
from ui.look.markup import empty_state, notice

_REFRESH_S = 3


@dataclass(frozen=True)
class ChatForm:
    """What the tab's fields hold when a message is sent."""

    text: str
    chatbot: Turns
    model: str | None
    system: str | None
    temperature: float | None
    max_tokens: float | None


@dataclass(frozen=True)
class ChatView:
    """The components that the handlers read and update."""

    model: gr.Dropdown
    about: gr.HTML
    banner: gr.HTML
    line: gr.HTML
    figures: gr.HTML
    examples: gr.HTML
    shown: gr.State
    chatbot: gr.Chatbot
    text: gr.Textbox
    again: gr.Button
    system: gr.Textbox
    temperature: gr.Number
    max_tokens: gr.Number
    link: gr.Button


class ChatTab:
    """The tab's handlers. One instance serves every browser; a browser's state is in its own components."""

    def __init__(self, context: PageContext, view: ChatView) -> None:
        self._context = context
        self._view = view
        self._signals = StopSignals()

    async def refresh(self, model: str | None, shown: Any) -> dict[Any, Any]:
        """Updates the list of models, and the banner if the chosen one is not ready.

        `shown` is what the browser has already. If nothing changed, nothing is sent, so that an open list stays open.
        """
        view = self._view
        try:
            models = await asyncio.to_thread(self._context.models)
        except Exception as error:  # shown as a line on the page, not as a pop-up every 3 s
            return {view.banner: notice(error_message(error), "bad")}
        choice = preselected_model(models, model)
        now = (model_options(models), choice, readiness_banner(models, choice))
        if now == shown:
            return {view.shown: now}
        spec = next((model.spec for model in models if model.id == choice), None)
        questions = await asyncio.to_thread(example_questions, self._context.database, [spec]) if spec else ()
        return {
            view.model: gr.update(choices=now[0], value=choice),
            view.about: describe_model(spec) if spec else "",
            view.examples: examples_html(questions, "chat-text"),
            view.link: gr.update(visible=spec is not None),
            view.banner: now[2],
            view.shown: now,
        }

    async def send(self, values: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Sends the message; yields the conversation as the answer grows."""
        form = read_form(ChatForm, self._view, values)
        text = (form.text or "").strip()
        turns = [*plain_turns(form.chatbot), {"role": "user", "content": text}] if text else []
        async for update in self._answer(turns, form, request):
            yield update

    async def regenerate(self, values: dict[Any, Any], request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Sends the last message again, for another answer."""
        form = read_form(ChatForm, self._view, values)
        async for update in self._answer(without_last_answer(plain_turns(form.chatbot)), form, request):
            yield update

    async def edit(
        self, values: dict[Any, Any], change: gr.EditData, request: gr.Request
    ) -> AsyncIterator[dict[Any, Any]]:
        """Sends an edited message; the turns after it are dropped."""
        form = read_form(ChatForm, self._view, values)
        async for update in self._answer(edited_turns(form.chatbot, change.index, change.value), form, request):
            yield update

    async def rate(
        self, chatbot: Turns, model: str | None, system: str | None, given: gr.LikeData, request: gr.Request
    ) -> str:
        """Stores a rating of an answer; returns the line for the page."""
        place = RatedPlace("chat", model or "", system, str(request.session_hash))
        return await store_rating(self._context, place, chatbot, given) if model else ""

    async def reopen(self, chatbot: Turns) -> dict[Any, Any]:
        """Enables the buttons of a conversation that the browser has restored."""
        return {self._view.again: gr.update(interactive=bool(chatbot))}

    async def stop(self, request: gr.Request) -> None:
        """Stops this browser's answer; what has arrived stays."""
        self._signals.stop(request.session_hash)

    async def clear(self, request: gr.Request) -> dict[Any, Any]:
        """Starts a new conversation; an answer that is still arriving is stopped and not shown."""
        await self._signals.discard(request.session_hash)
        view = self._view
        return {
            view.chatbot: [],
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.again: gr.update(interactive=False),
            view.line: "",
            view.figures: "",
        }

    async def _answer(self, turns: Turns, form: ChatForm, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        view, model = self._view, form.model
        if not turns:
            yield {view.text: gr.update()}
            return
        if not model:
            yield {view.line: notice("Choose a model first.", "warn")}
            return
        try:
            options = request_options(form.temperature, form.max_tokens)
        except Invalid as error:
            yield {view.line: notice(error.message, "warn")}
            return
        stopped = self._signals.start(request.session_hash)
        yield {
            view.chatbot: [*turns, {"role": "assistant", "content": "…"}],
            view.text: gr.update(value="", submit_btn=False, stop_btn=True),
            view.again: gr.update(interactive=False),
            view.line: "",
            view.figures: "",
        }
        answer, current = StreamedAnswer(model), False
        try:
            sent = AnswerRequest(self._context.completer(model), to_messages(turns, form.system), options)
            async for (answer,) in stream_answers([sent], stopped):
                if answer.text and self._signals.is_current(request.session_hash, stopped):
                    shown = [*turns, {"role": "assistant", "content": answer.text}]
                    yield {view.chatbot: shown, view.figures: "" if answer.error else figures_html(answer)}
        finally:
            current = self._signals.finish(request.session_hash, stopped)
        if not current:
            return
        text, error = answer.text, answer.error
        if error and text:
            error = f"The answer was interrupted: {error}"
        elif not text and not error and not stopped.is_set():
            error = f"{model} returned an empty answer."
        yield {
            view.chatbot: [*turns, {"role": "assistant", "content": text}] if text else turns,
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.again: gr.update(interactive=True),
            view.line: notice(error, "bad") if error else "",
            view.figures: figures_html(answer) if text and not answer.error else "",
        }


def build_chat_tab(context: PageContext, blocks: gr.Blocks) -> Callable[[], Awaitable[dict[Any, Any]]]:
    """Lays out the tab and wires its events; returns a function for the page's prefill. Call it inside the tab.

    Args:
        blocks: the app around the tab.
    """
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=0, min_width=280, elem_classes="aside"):
            model = live_dropdown(label="Model", elem_id="chat-model")
            about = gr.HTML()
            with gr.Accordion("Settings", open=True, elem_classes="fold"):
                system, temperature, max_tokens = _settings()
            with gr.Accordion("Conversations", open=True, elem_classes="fold"):
                gr.HTML("<div id='chat-saved' class='saved'></div>")
            with gr.Accordion("Save and share", open=False, elem_classes="fold"):
                markdown = gr.Button("Save as Markdown", size="sm")
                as_json = gr.Button("Save as JSON", size="sm")
                link = gr.Button("Copy a link to this bot", size="sm", visible=False)
        with gr.Column(elem_classes="stage"):
            banner = gr.HTML(elem_id="chat-banner")
            chatbot = gr.Chatbot(
                elem_id="chat-log",
                elem_classes="talk",
                label="Conversation",
                show_label=False,
                height=None,
                buttons=["copy", "copy_all"],
                editable="user",
                placeholder=empty_state("Start a conversation", "Type a message below, or choose a question."),
                feedback_options=thumbs(context.settings),
                layout="bubble",
                allow_tags=False,
            )
            examples = gr.HTML(elem_id="chat-examples")
            figures = gr.HTML(elem_id="chat-figures")
            line = gr.HTML(elem_id="chat-line")
            text = gr.Textbox(
                placeholder="Type a message",
                label="Message",
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                submit_btn=True,
                elem_id="chat-text",
                elem_classes="composer",
            )
            with gr.Row(elem_classes="under"):
                again = gr.Button("Regenerate", size="sm", interactive=False, elem_id="chat-again")
                new = gr.Button("New conversation", size="sm", elem_id="chat-new")
                reopen = gr.Button(elem_id="chat-reopen", elem_classes="offstage")
    view = ChatView(
        model, about, banner, line, figures, examples, gr.State(None), chatbot, text, again, system, temperature,
        max_tokens, link,
    )  # fmt: skip
    tab = ChatTab(context, view)
    _wire(tab, view, blocks)
    _wire_conversations(tab, view, (new, reopen), blocks)
    if thumbs(context.settings):
        chatbot.like(tab.rate, [chatbot, model, system], [line], **QUIET)
    save_markdown, save_json = (
        "(...values) => parley.saveMarkdown(...values)",
        "(...values) => parley.saveJson(...values)",
    )
    markdown.click(inputs=[chatbot, model], js=save_markdown, **BROWSER_ONLY)
    as_json.click(inputs=[chatbot, model, system], js=save_json, **BROWSER_ONLY)
    link.click(inputs=[model], js="(model) => parley.copyLink(model)", **BROWSER_ONLY)
    return lambda: tab.refresh(None, None)


def _settings() -> tuple[gr.Textbox, gr.Number, gr.Number]:
    """The fields for the system prompt, the temperature and the answer's length."""
    system = gr.Textbox(label="System prompt", lines=3, max_lines=10, placeholder="None", elem_id="chat-system")
    temperature = TEMPERATURE.component(0.7, step=0.05, elem_id="chat-temperature")
    max_tokens = ANSWER_LENGTH.component(512, elem_id="chat-length")
    return system, temperature, max_tokens


def _wire(tab: ChatTab, view: ChatView, blocks: gr.Blocks) -> None:
    states = [view.model, view.about, view.banner, view.link, view.examples, view.shown]
    view.text.stop(tab.stop, None, None, **QUIET)
    view.model.input(tab.refresh, [view.model, view.shown], states, **QUIET)
    gr.Timer(_REFRESH_S).tick(tab.refresh, [view.model, view.shown], states, **QUIET)
    blocks.load(tab.refresh, [view.model, view.shown], states, **QUIET)


def _wire_conversations(tab: ChatTab, view: ChatView, buttons: tuple[gr.Button, gr.Button], blocks: gr.Blocks) -> None:
    """Wires the events that send messages and those that store and reopen conversations. `buttons`: new, reopen."""
    new, reopen = buttons
    conversation = [view.chatbot, view.text, view.again, view.line, view.figures]
    inputs = form_inputs(ChatForm, view)
    stored = [view.chatbot, view.model, view.system]
    for answered in (
        view.text.submit(tab.send, inputs, conversation, concurrency_limit=None, **QUIET),
        view.again.click(tab.regenerate, inputs, conversation, concurrency_limit=None, **QUIET),
        view.chatbot.edit(tab.edit, inputs, conversation, concurrency_limit=None, **QUIET),
    ):
        answered.then(inputs=stored, js="(...values) => parleyChats.store(...values)", **BROWSER_ONLY)
    for emptied in (
        new.click(tab.clear, None, conversation, **QUIET),
        view.chatbot.clear(tab.clear, None, conversation, **QUIET),
    ):
        emptied.then(js="() => parleyChats.leave()", **BROWSER_ONLY)
    # Cleared first: an answer that is still arriving must not reach another conversation.
    reopened = reopen.click(tab.clear, None, conversation, **QUIET)
    blocks.load(js="() => parleyChats.focus()", **BROWSER_ONLY)
    for event in (reopened.then, blocks.load):
        opened = event(outputs=stored, inputs=stored, js="(...values) => parleyChats.opened(...values)", **BROWSER_ONLY)
        opened.then(tab.reopen, [view.chatbot], [view.again], **QUIET)
