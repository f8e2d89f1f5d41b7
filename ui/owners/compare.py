"""The Compare tab: two to four named models side by side on one prompt, streamed by one clock, with their speed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from models.messages import Message
from ui.backend.context import Room, friendly
from ui.backend.model_options import banner, entries, notice
from ui.backend.streaming import Asked, Side, Stops, answers
from ui.look.components import QUIET, live_list

_MOST = 4
_STATE_EVERY_S = 5
_EMPTY = (
    "<div class='quiet'><b>The same question to all of them</b><span>Their answers come side by side, with the time "
    "to the first token and tokens a second under each.</span></div>"
)


@dataclass(frozen=True)
class Lane:
    """One model's column."""

    column: gr.Column
    head: gr.HTML
    text: gr.Markdown
    foot: gr.HTML


@dataclass(frozen=True)
class CompareView:
    """The components that the handlers fill."""

    models: gr.Dropdown
    banner: gr.HTML
    line: gr.HTML
    shown: gr.State
    prompt: gr.Textbox
    hint: gr.HTML
    lanes: tuple[Lane, ...]


class Compare:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: CompareView) -> None:
        self._room = room
        self._view = view
        self._stops = Stops()

    async def refresh(self, chosen: list[str] | None, shown: Any) -> dict[Any, Any]:
        """The models as they are now; at first, the first two that are ready and no judges.

        `shown` is what the browser has: where nothing changed nothing is sent, so that an open list stays open.
        """
        view = self._view
        try:
            models = await asyncio.to_thread(self._room.models)
        except Exception as error:  # a timer's fault is a line on the page, not a pop-up
            return {view.banner: notice(friendly(error), "bad")}
        ids = [model.id for model in models]
        kept = [name for name in chosen or [] if name in ids]
        if shown is None and not kept:
            kept = [model.id for model in models if not model.spec.judge][:2]
        now = (entries(models), kept, banner(models, *kept))
        if now == shown:
            return {view.shown: now}
        keep: dict[str, Any] = {"value": kept} if kept != chosen else {}
        return {view.models: gr.update(choices=now[0], **keep), view.banner: now[2], view.shown: now}

    async def ask(
        self,
        prompt: str,
        chosen: list[str] | None,
        system: str | None,
        temperature: float,
        max_tokens: float,
        request: gr.Request,
    ) -> AsyncIterator[dict[Any, Any]]:
        """Ask all chosen models at once; yields all columns together."""
        view = self._view
        names = list(dict.fromkeys(chosen or []))[:_MOST]
        if not prompt or not prompt.strip():
            yield {view.line: notice("Write a prompt first.", "warn")}
            return
        if len(names) < 2:
            yield {view.line: notice("Choose two models or more.", "warn")}
            return
        said = [Message(role="system", content=system.strip())] if system and system.strip() else []
        said.append(Message(role="user", content=prompt.strip()))
        options = {"temperature": float(temperature), "max_tokens": int(max_tokens)}
        stopped = self._stops.begin(request.session_hash)
        yield {view.line: "", view.hint: "", view.prompt: gr.update(submit_btn=False, stop_btn=True)} | self._lanes(
            [Side(name) for name in names], first=True
        )
        try:
            asked = [Asked(self._room.completer(name), said, options) for name in names]
            async for sides in answers(asked, stopped):
                yield self._lanes(sides)
        finally:
            self._stops.end(request.session_hash, stopped)
        yield {view.prompt: gr.update(submit_btn=True, stop_btn=False)}

    async def stop(self, request: gr.Request) -> None:
        """End this browser's streams; what has come stays."""
        self._stops.stop(request.session_hash)

    def _lanes(self, sides: list[Side], first: bool = False) -> dict[Any, Any]:
        update: dict[Any, Any] = {}
        for index, lane in enumerate(self._view.lanes):
            if index < len(sides):
                side = sides[index]
                update[lane.text] = side.text
                update[lane.foot] = speed(side)
                if first:
                    update[lane.column] = gr.update(visible=True)
                    update[lane.head] = f'<div class="lane-name">{escape(side.model)}</div>'
            elif first:
                update[lane.column] = gr.update(visible=False)
        return update


def speed(side: Side) -> str:
    """Time to first token, tokens a second and tokens of an answer, as a line of HTML."""
    if side.error:
        return notice(side.error, "bad")
    if side.first_s is None:
        return '<div class="speed">waiting for the first token…</div>' if not side.done else notice("An empty answer.")
    rate = side.tokens_per_second
    facts = [
        f"<span><b>{side.first_s * 1000:.0f} ms</b> to first token</span>" if side.first_s < 1
        else f"<span><b>{side.first_s:.1f} s</b> to first token</span>",
        f"<span><b>{rate:.0f}</b> tokens/s</span>" if rate else "",
        f"<span><b>{side.tokens}</b> tokens</span>",
    ]  # fmt: skip
    return f'<div class="speed">{"".join(facts)}</div>'


def compare_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it. Call inside the tab."""
    models = live_list(label="Models, two to four", multiselect=True, max_choices=_MOST, elem_id="compare-models")
    state = gr.HTML(elem_id="compare-banner")
    prompt = gr.Textbox(
        placeholder="One prompt for all of them",
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
        temperature = gr.Slider(0, 2, value=0.7, step=0.05, label="Temperature")
        max_tokens = gr.Slider(16, 2048, value=512, step=16, label="Longest answer, in tokens")
    line = gr.HTML(elem_id="compare-line")
    hint = gr.HTML(_EMPTY)
    lanes = []
    with gr.Row(elem_classes="lanes", equal_height=True):
        for index in range(_MOST):
            with gr.Column(visible=False, min_width=240, elem_classes="lane") as column:
                head = gr.HTML()
                text = gr.Markdown(elem_classes="answer", elem_id=f"compare-answer-{index + 1}")
                foot = gr.HTML(elem_id=f"compare-speed-{index + 1}")
            lanes.append(Lane(column, head, text, foot))
    shown = gr.State(None)
    view = CompareView(models, state, line, shown, prompt, hint, tuple(lanes))
    compare = Compare(room, view)
    every = [part for lane in lanes for part in (lane.column, lane.head, lane.text, lane.foot)]
    prompt.submit(
        compare.ask,
        [prompt, models, system, temperature, max_tokens],
        [line, prompt, hint, *every],
        concurrency_limit=None,
        **QUIET,
    )
    prompt.stop(compare.stop, None, None, **QUIET)
    models.input(compare.refresh, [models, shown], [models, state, shown], **QUIET)
    gr.Timer(_STATE_EVERY_S).tick(compare.refresh, [models, shown], [models, state, shown], **QUIET)
    tab.select(compare.refresh, [models, shown], [models, state, shown], **QUIET)
