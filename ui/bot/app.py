"""The app at /bot/<model>: one bot alone, large enough for a projector: title, greeting, examples, conversation.

One layout serves every model. `ui.access.router` resolves the model from the address.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from starlette.types import Scope

from models.spec import BotProfile, ModelSpec
from ui.backend.context import PageContext
from ui.backend.conversation import Turns, plain_turns, to_messages
from ui.backend.profiles import MAX_EXAMPLES, profile_of
from ui.backend.ratings import RatedPlace, store_rating, thumbs
from ui.backend.streaming import AnswerRequest, StopSignals, stream_answers
from ui.look.branded_app import MakePrefill, Prefill
from ui.look.components import BROWSER_ONLY, QUIET, as_props
from ui.look.markup import notice
from ui.look.theme import header, style

_MAX_TOKENS = 700


@dataclass(frozen=True)
class BotView:
    """The components that the handlers update."""

    bar: gr.HTML
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
        await self._signals.discard(request.session_hash)
        return await self._opening(await self._spec(request))

    async def make_prefill(self, scope: Scope) -> Prefill:
        """What the page shows before Gradio has started: the profile's values, and an outline of the page."""
        spec = await asyncio.to_thread(self._context.registry.resolve, scope["parley_bot"])
        opening = await self._opening(spec)
        chatbot = self._view.chatbot
        opening[chatbot] = chatbot.postprocess(opening[chatbot]).model_dump()
        return Prefill(as_props(opening), _skeleton(profile_of(spec)))

    async def _opening(self, spec: ModelSpec) -> dict[Any, Any]:
        view, profile = self._view, profile_of(spec)
        update: dict[Any, Any] = {
            view.bar: _bar(profile),
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

    async def rate(self, history: Turns, given: gr.LikeData, request: gr.Request) -> str:
        """Stores a rating of an answer; returns the line for the page."""
        spec = await self._spec(request)
        place = RatedPlace("bot", spec.id, profile_of(spec).system_prompt, str(request.session_hash))
        return await store_rating(self._context, place, history, given)

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


def _bar(profile: BotProfile) -> str:
    restart = "<button class='restart' type='button' data-parley='restart'>Start over</button>"
    return header("", links=restart, logo=f"logo?v={profile.logo}" if profile.logo else "")


def _skeleton(profile: BotProfile) -> str:
    """The page's outline as HTML: bar, title, greeting and an empty message box."""
    return (
        f"<style>{style('skeleton.css')}</style><div class='skeleton' aria-hidden='true'>{_bar(profile)}"
        f"<h1>{escape(profile.title)}</h1><div class='talk'><p>{escape(profile.greeting)}</p></div>"
        "<div class='box'></div></div>"
    )


@dataclass(frozen=True)
class BotPage:
    """The app of all bots, and the prefill of a bot's page."""

    blocks: gr.Blocks
    make_prefill: MakePrefill


def build_bot_app(context: PageContext) -> BotPage:
    """The app at /bot/<model>: its layout and events."""
    with gr.Blocks(title="Parley", analytics_enabled=False) as blocks:
        bar = gr.HTML(header(""))
        with gr.Column(elem_classes="solo"):
            title = gr.HTML("<h1 class='bot-title'>&nbsp;</h1>", elem_id="bot-title")
            line = gr.HTML(elem_id="bot-line")
            chatbot = gr.Chatbot(
                elem_id="bot-log",
                label="Conversation",
                elem_classes="talk big",
                show_label=False,
                height=None,
                buttons=[],
                feedback_options=thumbs(context.settings),
                placeholder=" ",
                allow_tags=False,
            )
            with gr.Row(elem_classes="chips", visible=False) as shelf:
                chips = tuple(
                    gr.Button("", visible=False, size="sm", elem_classes="chip", elem_id=f"bot-chip-{index + 1}")
                    for index in range(MAX_EXAMPLES)
                )
            text = gr.Textbox(
                placeholder="Type a message",
                label="Message",
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
        view = BotView(bar, title, chatbot, chips, shelf, text, line)
        bot = BotApp(context, view)
        loaded = [bar, title, chatbot, text, shelf, line, *chips]
        updated = [chatbot, text, shelf, line]
        load = blocks.load(bot.load, None, loaded, **QUIET)
        load.then(js="() => { parley.title(document.querySelector('.bot-title')?.textContent); }", **BROWSER_ONLY)
        again.click(bot.load, None, loaded, **QUIET)
        if thumbs(context.settings):
            chatbot.like(bot.rate, [chatbot], [line], **QUIET)
        text.submit(bot.send, [text, chatbot], updated, **QUIET)
        text.stop(bot.stop, None, None, **QUIET)
        for chip in chips:
            chip.click(bot.send, [chip, chatbot], updated, **QUIET)
    return BotPage(blocks, bot.make_prefill)
