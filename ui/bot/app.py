"""One bot alone, to demo on a projector: its title, greeting, examples, and a conversation. Nothing else.

One layout serves every model: which one is in the address, and `ui.access.router` has looked it up in the registry.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from models.spec import BotProfile, ModelSpec
from ui.backend.context import Room
from ui.backend.conversation import Turns, messages, turns
from ui.backend.model_options import notice
from ui.backend.streaming import Asked, Stops, answers
from ui.look.components import BROWSER, QUIET
from ui.look.theme import header

_EXAMPLES = 4
_MOST_TOKENS = 700


@dataclass(frozen=True)
class BotView:
    """The components that the handlers fill."""

    title: gr.HTML
    chatbot: gr.Chatbot
    chips: tuple[gr.Button, ...]
    shelf: gr.Row
    text: gr.Textbox
    line: gr.HTML


class Bot:
    """What the app does. One instance serves every model and every browser."""

    def __init__(self, room: Room, view: BotView) -> None:
        self._room = room
        self._view = view
        self._stops = Stops()

    async def arrive(self, request: gr.Request) -> dict[Any, Any]:
        """The page has loaded, or the demo starts over: greet."""
        self._stops.drop(request.session_hash)
        view, spec = self._view, await self._spec(request)
        profile = profile_of(spec)
        update: dict[Any, Any] = {
            view.title: _title(profile),
            view.chatbot: [{"role": "assistant", "content": profile.greeting}],
            view.text: gr.update(value="", submit_btn=True, stop_btn=False),
            view.shelf: gr.update(visible=bool(profile.examples)),
            view.line: await self._line(spec),
        }
        for index, chip in enumerate(view.chips):
            there = index < len(profile.examples)
            update[chip] = gr.update(value=profile.examples[index] if there else "", visible=there)
        return update

    async def send(self, text: str, history: Turns, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Ask; yields the conversation as it grows."""
        view = self._view
        if not text or not text.strip():
            yield {view.line: gr.update()}
            return
        spec = await self._spec(request)
        asked = [*turns(history), {"role": "user", "content": text.strip()}]
        stopped = self._stops.begin(request.session_hash)
        yield {
            view.chatbot: [*asked, {"role": "assistant", "content": "…"}],
            view.text: gr.update(value="", submit_btn=False, stop_btn=True),
            view.shelf: gr.update(visible=False),
            view.line: "",
        }
        said, error, ours = "", "", False
        try:
            # The greeting is ours, not the model's: it is shown and not sent.
            sent = asked[1:] if asked[0]["role"] == "assistant" else asked
            one = Asked(
                self._room.completer(spec.id),
                messages(sent, profile_of(spec).system_prompt),
                {"max_tokens": _MOST_TOKENS, "temperature": 0.5},
            )
            async for (side,) in answers([one], stopped):
                said, error = side.text, side.error
                if said and self._stops.holds(request.session_hash, stopped):
                    yield {view.chatbot: [*asked, {"role": "assistant", "content": said}]}
        finally:
            ours = self._stops.end(request.session_hash, stopped)
        if not ours:
            return
        missing = error or not (said or stopped.is_set())
        yield {
            view.chatbot: [*asked, {"role": "assistant", "content": said}] if said else asked,
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.line: notice("The answer did not come through. Try again in a moment.", "bad") if missing else "",
        }

    async def stop(self, request: gr.Request) -> None:
        """End this browser's stream."""
        self._stops.stop(request.session_hash)

    async def _spec(self, request: gr.Request) -> ModelSpec:
        scope = request.request.scope if request.request is not None else {}
        return await asyncio.to_thread(self._room.registry.resolve, scope["parley_bot"])

    async def _line(self, spec: ModelSpec) -> str:
        states = {model.id: model for model in await asyncio.to_thread(self._room.models)}
        model = states.get(spec.id)
        if model is not None and model.ready:
            return ""
        if model is not None and model.state == "failed":
            return notice("This bot is not available at the moment.", "bad")
        return notice("Starting: this bot answers as soon as it is ready.", "wait")


def profile_of(spec: ModelSpec) -> BotProfile:
    """How the model introduces itself; a plain introduction where its spec has none."""
    return spec.bot or BotProfile(title=spec.id, greeting="Hello! What can I do for you?")


def _title(profile: BotProfile) -> str:
    return f"<h1 class='bot-title'>{escape(profile.title)}</h1>"


def bot_blocks(room: Room) -> gr.Blocks:
    """The app at /bot/<model>."""
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
                placeholder="Write a message",
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
        bot = Bot(room, view)
        start = [title, chatbot, text, shelf, line, *chips]
        talking = [chatbot, text, shelf, line]
        arrival = blocks.load(bot.arrive, None, start, **QUIET)
        arrival.then(js="() => { parley.title(document.querySelector('.bot-title')?.textContent); }", **BROWSER)
        again.click(bot.arrive, None, start, **QUIET)
        text.submit(bot.send, [text, chatbot], talking, **QUIET)
        text.stop(bot.stop, None, None, **QUIET)
        for chip in chips:
            chip.click(bot.send, [chip, chatbot], talking, **QUIET)
    return blocks
