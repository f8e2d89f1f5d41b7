"""The Models tab: what is served and how it is, pins, retiring, hosted models added; for owners.

The rules are the registry's; who starts and stops engines is the supervisor, which follows the registry.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid, ParleyError
from models.registry import parse_spec
from models.spec import ModelSpec
from ui.backend.context import Room, friendly
from ui.backend.model_options import notice
from ui.look.components import QUIET, live_list
from ui.owners.models.html import models_table

_EVERY_S = 3.0
_LEAD = (
    "<p class='lead'>What is served, and how it is. Models that do not fit into memory together take turns: one that "
    "is asked for starts, and the one not asked for longest makes room, unless it is pinned.</p>"
)


@dataclass(frozen=True)
class ModelsView:
    """The components that the handlers fill."""

    table: gr.HTML
    line: gr.HTML
    which: gr.Dropdown
    pin: gr.Button
    unpin: gr.Button
    retire: gr.Button
    sure: gr.Row
    name: gr.Textbox
    address: gr.Textbox
    there: gr.Textbox
    credential: gr.Textbox
    fallbacks: gr.Dropdown
    price_in: gr.Textbox
    price_out: gr.Textbox


class Models:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: ModelsView) -> None:
        self._room = room
        self._view = view

    async def refresh(self, which: str | None) -> dict[Any, Any]:
        """Everything as it is now; what was typed stays."""
        try:
            return await asyncio.to_thread(self._everything, which) | {self._view.line: ""}
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return {self._view.line: notice(friendly(error), "bad")}

    async def tick(self, seen: str) -> tuple[Any, Any]:
        """The table and what it shows now, where that is another than was seen."""
        try:
            html = await asyncio.to_thread(self._table)
        except Exception:  # the table stays as it is, and the next look may be luckier
            return gr.skip(), gr.skip()
        return (gr.skip(), gr.skip()) if html == seen else (html, html)

    async def choose(self, which: str | None) -> dict[Any, Any]:
        """The buttons that make sense for another model."""
        return await asyncio.to_thread(self._buttons, which)

    async def pin(self, which: str | None) -> dict[Any, Any]:
        """Its engine stays in memory."""
        return await self._act(which, lambda name: f"{self._room.registry.pin(name).id} stays in memory.")

    async def unpin(self, which: str | None) -> dict[Any, Any]:
        """Its engine may make room again."""
        return await self._act(which, lambda name: f"{self._room.registry.unpin(name).id} may make room for others.")

    def ask(self) -> dict[Any, Any]:
        """Retiring is asked about once more: a name is never used again."""
        return {self._view.sure: gr.update(visible=True), self._view.retire: gr.update(visible=False)}

    def keep(self) -> dict[Any, Any]:
        """No, it stays."""
        return {self._view.sure: gr.update(visible=False), self._view.retire: gr.update(visible=True)}

    async def retire(self, which: str | None) -> dict[Any, Any]:
        """It is served no more; answers that run come to their end."""

        def retire(name: str) -> str:
            self._room.registry.retire(name)
            return f"{name} is retired. Answers that run come to their end."

        return await self._act(which, retire)

    async def add(
        self, name: str, address: str, there: str, credential: str, fallbacks: list[str] | None, *prices: str
    ) -> dict[Any, Any]:
        """Registers a hosted model."""
        view = self._view
        try:
            said = await asyncio.to_thread(self._add, name, address, there, credential, fallbacks or [], prices)
            everything = await asyncio.to_thread(self._everything, name.strip())
        except ParleyError as error:
            return {view.line: notice(error.message, "warn")}
        except Exception as error:  # as above
            return {view.line: notice(friendly(error), "bad")}
        empty = dict.fromkeys((view.name, view.there, view.price_in, view.price_out), "")
        return everything | empty | {view.fallbacks: gr.update(value=[]), view.line: notice(said, "good")}

    async def _act(self, which: str | None, act: Any) -> dict[Any, Any]:
        if not which:
            return {self._view.line: notice("Choose a model first.", "warn")}
        try:
            said = await asyncio.to_thread(act, which)
            everything = await asyncio.to_thread(self._everything, which)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "warn")}
        except Exception as error:  # as above
            return {self._view.line: notice(friendly(error), "bad")}
        return everything | {self._view.line: notice(said, "good")}

    def _add(
        self, name: str, address: str, there: str, credential: str, fallbacks: list[str], prices: tuple[str, ...]
    ) -> str:
        upstream = {
            "base_url": address.strip(), "model": there.strip() or name.strip(),
            "credential": credential.strip() or None,
            "usd_per_million_input": _price(prices[0]), "usd_per_million_output": _price(prices[1]),
        }  # fmt: skip
        spec = parse_spec(id=name.strip(), kind="hosted", upstream=upstream, fallbacks=tuple(fallbacks))
        self._room.registry.register(spec)
        return f"{spec.id} is registered, and served from now on."

    def _everything(self, which: str | None) -> dict[Any, Any]:
        view = self._view
        names = [spec.id for spec in self._room.registry.list(include_candidates=True)]
        chosen = which if which in names else names[0] if names else None
        return {
            view.table: self._table(),
            view.which: gr.update(choices=names, value=chosen),
            view.fallbacks: gr.update(choices=names),
        } | self._buttons(chosen)

    def _buttons(self, which: str | None) -> dict[Any, Any]:
        view, registry = self._view, self._room.registry
        spec = next((one for one in registry.list(include_candidates=True) if one.id == which), None)
        own = spec is not None and spec.kind in ("base", "merged")
        pinned = which in registry.pinned()
        return {
            view.pin: gr.update(visible=own and not pinned),
            view.unpin: gr.update(visible=own and pinned),
            view.retire: gr.update(visible=spec is not None),
            view.sure: gr.update(visible=False),
        }

    def _table(self) -> str:
        from serve.launcher.status import report

        told = report(self._room.settings, self._room.database)
        specs = {spec.id: spec for spec in self._room.registry.list(include_candidates=True)}
        for one in told["models"]:
            spec = specs.get(one["id"])
            one["registered"] = spec.state if spec else ""
            one["upstream"] = _named_there(spec) if spec else ""
        return models_table(told["models"], running=told["running"])


def models_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it; it is filled when it is opened. Call inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML(_LEAD)
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="models-refresh")
    table = gr.HTML(elem_id="models-table")
    which = live_list(label="Model", elem_id="models-which")
    with gr.Row(elem_classes="under"):
        pin = gr.Button("Pin", size="md", visible=False, min_width=110, elem_id="models-pin")
        unpin = gr.Button("Unpin", size="md", visible=False, min_width=110, elem_id="models-unpin")
        retire = gr.Button("Retire", size="md", visible=False, min_width=110, elem_id="models-retire")
    with gr.Row(visible=False, elem_classes="under", elem_id="models-sure") as sure:
        yes = gr.Button("Yes, retire it; its name is never used again", variant="stop", size="sm", elem_id="models-yes")
        no = gr.Button("No, keep it", size="sm", elem_id="models-no")
    with gr.Accordion("Add a hosted model", open=False, elem_classes="fold", elem_id="models-form"):
        with gr.Row(elem_classes="form-row"):
            name = gr.Textbox(label="Name for clients", placeholder="gpt", max_lines=1, elem_id="models-name")
            address = gr.Textbox(
                label="Address", placeholder="https://api.openai.com/v1", max_lines=1, elem_id="models-address"
            )
            there = gr.Textbox(label="Its name there", placeholder="the same", max_lines=1, elem_id="models-there")
        with gr.Row(elem_classes="form-row"):
            credential = gr.Textbox(
                label="Variable that holds the key", placeholder="OPENAI_API_KEY; never the key itself", max_lines=1,
                elem_id="models-credential",
            )  # fmt: skip
            fallbacks = live_list(label="Ask these while it fails", multiselect=True, elem_id="models-fallbacks")
        with gr.Row(elem_classes="form-row numbers"):
            price_in = gr.Textbox(
                label="US$ a million tokens in", placeholder="not known", max_lines=1, elem_id="models-price-in"
            )
            price_out = gr.Textbox(
                label="US$ a million tokens out", placeholder="not known", max_lines=1, elem_id="models-price-out"
            )
        with gr.Row(elem_classes="under"):
            add = gr.Button("Add the model", variant="primary", size="md", elem_id="models-add")
    # Under the form, where who has pressed its button looks; while it is closed, that is under the other buttons.
    line = gr.HTML(elem_id="models-line")
    seen = gr.State("")
    view = ModelsView(
        table, line, which, pin, unpin, retire, sure, name, address, there, credential, fallbacks, price_in, price_out
    )
    models = Models(room, view)
    buttons = [pin, unpin, retire, sure]
    everything = [table, line, which, *buttons, name, there, fallbacks, price_in, price_out]
    tab.select(models.refresh, [which], everything, **QUIET)
    again.click(models.refresh, [which], everything, **QUIET)
    which.input(models.choose, [which], buttons, **QUIET)
    pin.click(models.pin, [which], everything, **QUIET)
    unpin.click(models.unpin, [which], everything, **QUIET)
    retire.click(models.ask, None, [retire, sure], **QUIET)
    no.click(models.keep, None, [retire, sure], **QUIET)
    yes.click(models.retire, [which], everything, **QUIET)
    form = [name, address, there, credential, fallbacks, price_in, price_out]
    add.click(models.add, form, everything, trigger_mode="once", **QUIET)
    gr.Timer(_EVERY_S).tick(models.tick, [seen], [table, seen], **QUIET)


def _named_there(spec: ModelSpec) -> str:
    """A hosted model's name at its upstream, where it is another."""
    return f"as {spec.upstream.model}" if spec.upstream and spec.upstream.model != spec.id else ""


def _price(text: str) -> float | None:
    plain = (text or "").replace(",", "").replace("$", "").strip()
    if not plain:
        return None
    try:
        return float(plain)
    except ValueError:
        raise Invalid(f"{text!r} is no price: give US dollars for a million tokens, such as 0.30.") from None
