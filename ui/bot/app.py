"""The app at /bot/<model>: one bot alone, large enough for a projector: title, greeting, examples, conversation.

One layout serves every model. `ui.access.router` resolves the model from the address.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from models.spec import BotProfile, ModelSpec
from ui.backend.context import PageContext
from ui.backend.conversation import Turns, plain_turns, to_messages
from ui.backend.streaming import AnswerRequest, StopSignals, stream_answers
from ui.look.components import BROWSER_ONLY, QUIET
from ui.look.markup import notice
from ui.look.theme import header

_EXAMPLES = 4
_MAX_TOKENS = 700


@dataclass(frozen=True)
class BotView:
    """The components that the handlers update."""

    title: gr.HTML
    chatbot: gr.Chatbot
    chips: tuple[gr.Button, ...]
    shelf: gr.Row
    text: gr.Textbox
    line: gr.HTML


class BotApp:
    """The handlers of the app. One instance serves every model and every browser."""

    def __init__(self, context: PageContext, view: BotView) -> None:
        self._context = context
        self._view = view
        self._signals = StopSignals()

    async def load(self, request: gr.Request) -> dict[Any, Any]:
        """On page load and on "Start over": shows the greeting."""
        self._signals.discard(request.session_hash)
        view, spec = self._view, await self._spec(request)
        profile = profile_of(spec)
        update: dict[Any, Any] = {
            view.title: f"<h1 class='bot-title'>{escape(profile.title)}</h1>",
            view.chatbot: [{"role": "assistant", "content": profile.greeting}],
            view.text: gr.update(value="", submit_btn=True, stop_btn=False),
            view.shelf: gr.update(visible=bool(profile.examples)),
            view.line: await self._state(spec),
        }
        for index, chip in enumerate(view.chips):
            exists = index < len(profile.examples)
            update[chip] = gr.update(value=profile.examples[index] if exists else "", visible=exists)
        return update

    async def send(self, text: str, history: Turns, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Sends a message; yields the conversation as the answer grows."""
        view = self._view
        if not text or not text.strip():
            yield {view.line: gr.update()}
            return
        spec = await self._spec(request)
        turns = [*plain_turns(history), {"role": "user", "content": text.strip()}]
        stopped = self._signals.start(request.session_hash)
        yield {
            view.chatbot: [*turns, {"role": "assistant", "content": "…"}],
            view.text: gr.update(value="", submit_btn=False, stop_btn=True),
            view.shelf: gr.update(visible=False),
            view.line: "",
        }
        answered, error, current = "", "", False
        try:
            # The greeting is the page's, not the model's: it is shown but not sent.
            sent = turns[1:] if turns[0]["role"] == "assistant" else turns
            answer_request = AnswerRequest(
                self._context.completer(spec.id),
                to_messages(sent, profile_of(spec).system_prompt),
                {"max_tokens": _MAX_TOKENS, "temperature": 0.5},
            )
            async for (answer,) in stream_answers([answer_request], stopped):
                answered, error = answer.text, answer.error
                if answered and self._signals.is_current(request.session_hash, stopped):
                    yield {view.chatbot: [*turns, {"role": "assistant", "content": answered}]}
        finally:
            current = self._signals.finish(request.session_hash, stopped)
        if not current:
            return
        failed = error or not (answered or stopped.is_set())
        yield {
            view.chatbot: [*turns, {"role": "assistant", "content": answered}] if answered else turns,
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.line: notice("The bot could not answer. Please try again in a moment.", "bad") if failed else "",
        }

    async def stop(self, request: gr.Request) -> None:
        """Stops this browser's answer."""
        self._signals.stop(request.session_hash)

    async def _spec(self, request: gr.Request) -> ModelSpec:
        scope = request.request.scope if request.request is not None else {}
        return await asyncio.to_thread(self._context.registry.resolve, scope["parley_bot"])

    async def _state(self, spec: ModelSpec) -> str:
        models = {model.id: model for model in await asyncio.to_thread(self._context.models)}
        model = models.get(spec.id)
        if model is not None and model.ready:
            return ""
        if model is not None and model.state == "failed":
            return notice("This bot is not available at the moment.", "bad")
        return notice("This bot is starting. It answers as soon as it is ready.", "wait")


def profile_of(spec: ModelSpec) -> BotProfile:
    """The model's profile; a plain one if its spec has none."""
    return spec.bot or BotProfile(title=spec.id, greeting="Hello! How can I help you?")


def build_bot_app(context: PageContext) -> gr.Blocks:
    """The app at /bot/<model>: its layout and events."""
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        restart = "<button class='restart' type='button' data-parley='restart'>Start over</button>"
        gr.HTML(header("", links=restart))
        with gr.Column(elem_classes="solo"):
            title = gr.HTML("<h1 class='bot-title'>&nbsp;</h1>", elem_id="bot-title")
            line = gr.HTML(elem_id="bot-line")
            chatbot = gr.Chatbot(
                elem_id="bot-log",
                elem_classes="talk big",
                show_label=False,
                height=None,
                buttons=[],
                feedback_options=None,
                placeholder=" ",
                allow_tags=False,
            )
            with gr.Row(elem_classes="chips", visible=False) as shelf:
                chips = tuple(
                    gr.Button("", visible=False, size="sm", elem_classes="chip", elem_id=f"bot-chip-{index + 1}")
                    for index in range(_EXAMPLES)
                )
            text = gr.Textbox(
                placeholder="Type a message",
                show_label=False,
                container=False,
                lines=1,
                max_lines=5,
                max_length=8000,
                submit_btn=True,
                autofocus=True,
                elem_id="bot-text",
                elem_classes="composer big",
            )
            again = gr.Button("Start over", elem_id="bot-restart", elem_classes="offstage")
        view = BotView(title, chatbot, chips, shelf, text, line)
        bot = BotApp(context, view)
        loaded = [title, chatbot, text, shelf, line, *chips]
        updated = [chatbot, text, shelf, line]
        load = blocks.load(bot.load, None, loaded, **QUIET)
        load.then(js="() => { parley.title(document.querySelector('.bot-title')?.textContent); }", **BROWSER_ONLY)
        again.click(bot.load, None, loaded, **QUIET)
        text.submit(bot.send, [text, chatbot], updated, **QUIET)
        text.stop(bot.stop, None, None, **QUIET)
        for chip in chips:
            chip.click(bot.send, [chip, chatbot], updated, **QUIET)
    return blocks
