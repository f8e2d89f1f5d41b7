"""The Chat tab: one model, streamed; stop, regenerate, settings, and a transcript to take along."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ui.backend.context import Room, friendly
from ui.backend.conversation import Turns, messages, turns, without_last_answer
from ui.backend.model_options import about, banner, entries, notice, picked
from ui.backend.streaming import Asked, Stops, answers
from ui.look.components import BROWSER, QUIET, live_list

_STATE_EVERY_S = 3
_EMPTY = "<div class='quiet'><b>Say something</b><span>The answer streams in as the model writes it.</span></div>"


@dataclass(frozen=True)
class ChatView:
    """The components that the handlers fill."""

    model: gr.Dropdown
    about: gr.HTML
    banner: gr.HTML
    line: gr.HTML
    shown: gr.State
    chatbot: gr.Chatbot
    text: gr.Textbox
    again: gr.Button
    system: gr.Textbox
    temperature: gr.Slider
    max_tokens: gr.Slider
    link: gr.Button


class Chat:
    """What the tab does. One instance serves every browser; what a browser says is in its own components."""

    def __init__(self, room: Room, view: ChatView) -> None:
        self._room = room
        self._view = view
        self._stops = Stops()

    async def refresh(self, model: str | None, shown: Any) -> dict[Any, Any]:
        """The models as they are now, and a banner where the chosen one is not ready.

        `shown` is what the browser has: where nothing changed nothing is sent, so that an open list stays open.
        """
        view = self._view
        try:
            models = await asyncio.to_thread(self._room.models)
        except Exception as error:  # a timer's fault is a line on the page, not a pop-up every 3 s
            return {view.banner: notice(friendly(error), "bad")}
        choice = picked(models, model)
        now = (entries(models), choice, banner(models, choice))
        if now == shown:
            return {view.shown: now}
        spec = next((m.spec for m in models if m.id == choice), None)
        return {
            view.model: gr.update(choices=entries(models), value=choice),
            view.about: about(spec) if spec else "",
            view.link: gr.update(visible=spec is not None),
            view.banner: now[2],
            view.shown: now,
        }

    async def send(
        self,
        text: str,
        history: Turns,
        model: str | None,
        system: str | None,
        temperature: float,
        max_tokens: float,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Ask; yields the conversation as it grows."""
        if not text or not text.strip():
            yield {self._view.text: gr.update()}
            return
        asked = [*turns(history), {"role": "user", "content": text.strip()}]
        async for update in self._answer(asked, model, system, temperature, max_tokens, request):
            yield update

    async def regenerate(
        self,
        history: Turns,
        model: str | None,
        system: str | None,
        temperature: float,
        max_tokens: float,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Ask the last question again, for another answer."""
        asked = without_last_answer(turns(history))
        if not asked:
            yield {self._view.text: gr.update()}
            return
        async for update in self._answer(asked, model, system, temperature, max_tokens, request):
            yield update

    async def stop(self, request: gr.Request) -> None:
        """End this browser's stream; what has come stays."""
        self._stops.stop(request.session_hash)

    async def forget(self, request: gr.Request) -> dict[Any, Any]:
        """A new conversation; an answer that was on its way is stopped and not shown."""
        self._stops.drop(request.session_hash)
        view = self._view
        return {
            view.chatbot: [],
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.again: gr.update(interactive=False),
            view.line: "",
        }

    async def _answer(
        self,
        asked: Turns,
        model: str | None,
        system: str | None,
        temperature: float,
        max_tokens: float,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        view = self._view
        if not model:
            yield {view.line: notice("Choose a model first.", "warn")}
            return
        stopped = self._stops.begin(request.session_hash)
        options = {"temperature": float(temperature), "max_tokens": int(max_tokens)}
        yield {
            view.chatbot: [*asked, {"role": "assistant", "content": "…"}],
            view.text: gr.update(value="", submit_btn=False, stop_btn=True),
            view.again: gr.update(interactive=False),
            view.line: "",
        }
        text, error, ours = "", "", False
        try:
            one = Asked(self._room.completer(model), messages(asked, system), options)
            async for (side,) in answers([one], stopped):
                text, error = side.text, side.error
                if text and self._stops.holds(request.session_hash, stopped):
                    yield {view.chatbot: [*asked, {"role": "assistant", "content": text}]}
        finally:
            ours = self._stops.end(request.session_hash, stopped)
        if not ours:
            return
        after = [*asked, {"role": "assistant", "content": text}] if text else asked
        if error and text:
            error = f"The answer broke off: {error}"
        elif not text and not error and not stopped.is_set():
            error = f"{model} gave an empty answer."
        yield {
            view.chatbot: after,
            view.text: gr.update(submit_btn=True, stop_btn=False),
            view.again: gr.update(interactive=True),
            view.line: notice(error, "bad") if error else "",
        }


def chat_tab(room: Room, blocks: gr.Blocks) -> None:
    """Lay out the tab and wire it. Call inside the tab; `blocks` is the app around it."""
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=0, min_width=280, elem_classes="aside"):
            model = live_list(label="Model", elem_id="chat-model")
            what = gr.HTML()
            with gr.Accordion("Settings", open=True, elem_classes="fold"):
                system = gr.Textbox(
                    label="System prompt", lines=3, max_lines=10, placeholder="None", elem_id="chat-system"
                )
                temperature = gr.Slider(0, 2, value=0.7, step=0.05, label="Temperature")
                max_tokens = gr.Slider(16, 2048, value=512, step=16, label="Longest answer, in tokens")
            with gr.Accordion("Take it along", open=False, elem_classes="fold"):
                markdown = gr.Button("Transcript (Markdown)", size="sm")
                as_json = gr.Button("Transcript (JSON)", size="sm")
                link = gr.Button("Copy a link to this bot", size="sm", visible=False)
        with gr.Column(elem_classes="stage"):
            state = gr.HTML(elem_id="chat-banner")
            chatbot = gr.Chatbot(
                elem_id="chat-log",
                elem_classes="talk",
                show_label=False,
                height=None,
                buttons=["copy", "copy_all"],
                placeholder=_EMPTY,
                feedback_options=None,
                layout="bubble",
                allow_tags=False,
            )
            line = gr.HTML(elem_id="chat-line")
            text = gr.Textbox(
                placeholder="Write to the model",
                show_label=False,
                container=False,
                lines=1,
                max_lines=8,
                submit_btn=True,
                autofocus=True,
                elem_id="chat-text",
                elem_classes="composer",
            )
            with gr.Row(elem_classes="under"):
                again = gr.Button("Regenerate", size="sm", interactive=False, elem_id="chat-again")
                fresh = gr.Button("New conversation", size="sm", elem_id="chat-new")
    view = ChatView(
        model, what, state, line, gr.State(None), chatbot, text, again, system, temperature, max_tokens, link
    )
    chat = Chat(room, view)
    _wire(chat, view, fresh, blocks)
    markdown.click(inputs=[chatbot, model], js="(history, model) => parley.saveMarkdown(history, model)", **BROWSER)
    as_json.click(
        inputs=[chatbot, model, system],
        js="(history, model, system) => parley.saveJson(history, model, system)",
        **BROWSER,
    )
    link.click(inputs=[model], js="(model) => parley.copyLink(model)", **BROWSER)


def _wire(chat: Chat, view: ChatView, fresh: gr.Button, blocks: gr.Blocks) -> None:
    states = [view.model, view.about, view.banner, view.link, view.shown]
    settings = [view.model, view.system, view.temperature, view.max_tokens]
    talking = [view.chatbot, view.text, view.again, view.line]
    view.text.submit(chat.send, [view.text, view.chatbot, *settings], talking, concurrency_limit=None, **QUIET)
    view.again.click(chat.regenerate, [view.chatbot, *settings], talking, concurrency_limit=None, **QUIET)
    view.text.stop(chat.stop, None, None, **QUIET)
    fresh.click(chat.forget, None, talking, **QUIET)
    view.model.input(chat.refresh, [view.model, view.shown], states, **QUIET)
    timer = gr.Timer(_STATE_EVERY_S)
    timer.tick(chat.refresh, [view.model, view.shown], states, **QUIET)
    blocks.load(chat.refresh, [view.model, view.shown], states, **QUIET)
