"""The Models tab: served models and their state, pinning, retiring, and adding hosted models.

The rules are the registry's. The supervisor starts and stops engines to match it.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from evals.recordings.coverage import shutdown_coverage
from models.errors import Invalid, ParleyError
from models.registry.new_model import NewModel
from models.spec import ModelSpec
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, confirm_row, form_inputs, live_dropdown, read_form
from ui.look.markup import notice
from ui.owners.models.alias_form import build_alias_form
from ui.owners.models.bot_page import build_bot_page_form
from ui.owners.models.html import aliases_html, models_table
from ui.owners.models.recording_form import build_recording_form
from ui.owners.models.weights_form import build_weights_form

_REFRESH_S = 3.0
_LEAD = (
    "<p class='lead'>Your models and their state. If they do not all fit into memory, a request starts the model it "
    "needs and stops the least recently used one. Pinned models are never stopped.</p>"
)


@dataclass(frozen=True)
class HostedModelForm:
    """What the form holds when a hosted model is added."""

    name: str
    address: str
    upstream_name: str
    credential: str
    fallbacks: list[str] | None
    price_in: str
    price_out: str

    def spec(self) -> ModelSpec:
        """The model's spec.

        Raises:
            Invalid: a field is not valid.
        """
        return NewModel(
            self.name.strip(),
            upstream=self.address.strip(),
            upstream_model=self.upstream_name.strip() or None,
            credential=self.credential.strip() or None,
            fallbacks=tuple(self.fallbacks or ()),
            usd_per_million_input=_price(self.price_in),
            usd_per_million_output=_price(self.price_out),
        ).spec()


@dataclass(frozen=True)
class ModelsView:
    """The components that the handlers read and update; the last ones are the fields of `HostedModelForm`."""

    table: gr.HTML
    line: gr.HTML
    which: gr.Dropdown
    load: gr.Button
    unload: gr.Button
    pin: gr.Button
    unpin: gr.Button
    retire: gr.Button
    sure: gr.Row
    name: gr.Textbox
    address: gr.Textbox
    upstream_name: gr.Textbox
    credential: gr.Textbox
    fallbacks: gr.Dropdown
    price_in: gr.Textbox
    price_out: gr.Textbox


class ModelsTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: ModelsView) -> None:
        self._context = context
        self._view = view

    async def refresh(self, which: str | None) -> dict[Any, Any]:
        """Updates everything; keeps what was typed."""
        try:
            return await asyncio.to_thread(self._everything, which) | {self._view.line: ""}
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {self._view.line: notice(error_message(error), "bad")}

    async def tick(self, shown: str) -> tuple[Any, Any]:
        """The table and its new `shown` value, if the table has changed."""
        try:
            html = await asyncio.to_thread(self._table)
        except Exception:  # the table stays as it is until the next tick
            return gr.skip(), gr.skip()
        return (gr.skip(), gr.skip()) if html == shown else (html, html)

    async def choose(self, which: str | None) -> dict[Any, Any]:
        """Shows the buttons that apply to another model."""
        return await asyncio.to_thread(self._buttons, which)

    async def load(self, which: str | None) -> dict[Any, Any]:
        """Starts the model's engine, as a request would."""
        from serve.fleet.engine_states import load_model

        load = partial(load_model, self._context.database)
        return await self._act(which, lambda name: f"{load(name).id} will be loaded once there is enough memory.")

    async def unload(self, which: str | None) -> dict[Any, Any]:
        """Stops the model's engine until the next request."""
        from serve.fleet.engine_states import unload_model

        unload = partial(unload_model, self._context.database)
        return await self._act(which, lambda name: f"{unload(name).id} is stopped until the next request for it.")

    async def pin(self, which: str | None) -> dict[Any, Any]:
        """Keeps the model's engine in memory."""
        return await self._act(which, lambda name: f"{self._context.registry.pin(name).id} stays in memory.")

    async def unpin(self, which: str | None) -> dict[Any, Any]:
        """Lets the model's engine be stopped when memory is needed."""
        unpin = self._context.registry.unpin
        return await self._act(which, lambda name: f"{unpin(name).id} may be stopped when memory is needed.")

    async def retire(self, which: str | None) -> dict[Any, Any]:
        """Stops serving the model; answers in progress are finished."""

        def retire(name: str) -> str:
            self._context.registry.retire(name)
            return f"{name} is retired. Answers in progress are finished."

        return await self._act(which, retire)

    async def add(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Registers a hosted model."""
        view, form = self._view, read_form(HostedModelForm, self._view, values)

        def add(name: str) -> str:
            spec = form.spec()
            self._context.registry.register(spec)
            return f"{spec.id} is registered and served from now on."

        update = await self._act(form.name.strip(), add, required=False)
        if view.table not in update:
            return update
        empty = dict.fromkeys((view.name, view.upstream_name, view.price_in, view.price_out), "")
        return update | empty | {view.fallbacks: gr.update(choices=self._names(), value=[])}

    async def _act(self, which: str | None, act: Any, required: bool = True) -> dict[Any, Any]:
        """Runs `act` with the model's name and shows the message it returns, or its error."""
        if required and not which:
            return {self._view.line: notice("Choose a model first.", "warn")}
        try:
            message = await asyncio.to_thread(act, which)
            everything = await asyncio.to_thread(self._everything, which)
        except ParleyError as error:
            return {self._view.line: notice(error.message, "warn")}
        except Exception as error:  # as above
            return {self._view.line: notice(error_message(error), "bad")}
        return everything | {self._view.line: notice(message, "good")}

    def _names(self) -> list[str]:
        return [spec.id for spec in self._context.registry.list(include_candidates=True)]

    def _everything(self, which: str | None) -> dict[Any, Any]:
        view, names = self._view, self._names()
        chosen = which if which in names else names[0] if names else None
        return {
            view.table: self._table(),
            view.which: gr.update(choices=names, value=chosen),
            view.fallbacks: gr.update(choices=names),
        } | self._buttons(chosen)

    def _buttons(self, which: str | None) -> dict[Any, Any]:
        from serve import model_states

        view, registry = self._view, self._context.registry
        spec = next((spec for spec in registry.list(include_candidates=True) if spec.id == which), None)
        has_engine = spec is not None and spec.kind in ("base", "merged")
        pinned = which in registry.pinned()
        states = model_states(self._context.database)
        runs = spec is not None and spec.id in states and states[spec.id].state in ("ready", "starting")
        return {
            view.load: gr.update(visible=spec is not None and spec.kind != "hosted" and not runs),
            view.unload: gr.update(visible=has_engine and runs and not pinned),
            view.pin: gr.update(visible=has_engine and not pinned),
            view.unpin: gr.update(visible=has_engine and pinned),
            view.retire: gr.update(visible=spec is not None),
            view.sure: gr.update(visible=False),
        }

    def _table(self) -> str:
        from serve.launcher.status import report

        status = report(self._context.settings, self._context.database)
        specs = {spec.id: spec for spec in self._context.registry.list(include_candidates=True)}
        recorded = shutdown_coverage(self._context.database)
        for model in status["models"]:
            spec = specs.get(model["id"])
            model["registered"] = spec.state if spec else ""
            model["upstream"] = _upstream_name(spec) if spec else ""
            model["shutdown"] = f"off on {spec.shutdown_date}" if spec and spec.shutdown_date else ""
            model["recorded"] = recorded.get(model["id"], "")
        weights, aliases = self._context.registry.alias_weights(), self._context.registry.aliases()
        shares = {name: weights.get(name) or {model: 1.0} for name, model in aliases.items()}
        return models_table(status["models"], running=status["running"]) + aliases_html(shares)


def build_models_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events; it is filled when it is opened. Call it inside the tab."""
    with gr.Row(elem_classes="tools"):
        gr.HTML(_LEAD)
        again = gr.Button("Refresh", size="sm", scale=0, min_width=110, elem_id="models-refresh")
    table = gr.HTML(elem_id="models-table")
    which = live_dropdown(label="Model", elem_id="models-which")
    with gr.Row(elem_classes="under"):
        load = gr.Button("Load", size="md", visible=False, min_width=110, elem_id="models-load")
        unload = gr.Button("Unload", size="md", visible=False, min_width=110, elem_id="models-unload")
        pin = gr.Button("Pin", size="md", visible=False, min_width=110, elem_id="models-pin")
        unpin = gr.Button("Unpin", size="md", visible=False, min_width=110, elem_id="models-unpin")
        retire = gr.Button("Retire", size="md", visible=False, min_width=110, elem_id="models-retire")
    sure, yes = confirm_row(retire, "Yes, retire it (its name cannot be used again)", "No, keep it", "models")
    bot_page, bot_parts = build_bot_page_form(context, which)
    build_recording_form(context, which)
    build_alias_form(context)
    weights_added = build_weights_form(context, tab)
    form, add = _form()
    # Below the form, near its button; while the form is closed, this is below the other buttons.
    line = gr.HTML(elem_id="models-line")
    shown = gr.State("")
    view = ModelsView(
        table=table, line=line, which=which, load=load, unload=unload, pin=pin, unpin=unpin, retire=retire, sure=sure,
        **form,
    )  # fmt: skip
    models = ModelsTab(context, view)
    buttons = [load, unload, pin, unpin, retire, sure]
    everything = [
        table, line, which, *buttons, view.name, view.upstream_name, view.fallbacks, view.price_in, view.price_out,
    ]  # fmt: skip
    opened = tab.select(models.refresh, [which], everything, **QUIET)
    weights_added.then(models.refresh, [which], everything, **QUIET)
    for chosen in (opened.then, which.input):
        chosen(bot_page.show, [which], bot_parts, **QUIET)
    again.click(models.refresh, [which], everything, **QUIET)
    which.input(models.choose, [which], buttons, **QUIET)
    load.click(models.load, [which], everything, **QUIET)
    unload.click(models.unload, [which], everything, **QUIET)
    pin.click(models.pin, [which], everything, **QUIET)
    unpin.click(models.unpin, [which], everything, **QUIET)
    yes.click(models.retire, [which], everything, **QUIET)
    add.click(models.add, form_inputs(HostedModelForm, view), everything, trigger_mode="once", **QUIET)
    gr.Timer(_REFRESH_S).tick(models.tick, [shown], [table, shown], **QUIET)


def _form() -> tuple[dict[str, Any], gr.Button]:
    """The form for a hosted model by the names in `ModelsView`, and its button."""
    with gr.Accordion("Add a hosted model", open=False, elem_classes="fold", elem_id="models-form"):
        with gr.Row(elem_classes="form-row"):
            name = gr.Textbox(label="Model name for clients", placeholder="gpt", max_lines=1, elem_id="models-name")
            address = gr.Textbox(
                label="Base URL", placeholder="https://api.openai.com/v1", max_lines=1, elem_id="models-address"
            )
            upstream_name = gr.Textbox(
                label="Model name at the provider", placeholder="same name", max_lines=1, elem_id="models-there"
            )
        with gr.Row(elem_classes="form-row"):
            credential = gr.Textbox(
                label="Environment variable with the API key", placeholder="OPENAI_API_KEY (not the key itself)",
                max_lines=1, elem_id="models-credential",
            )  # fmt: skip
            fallbacks = live_dropdown(label="Fallback models", multiselect=True, elem_id="models-fallbacks")
        with gr.Row(elem_classes="form-row numbers"):
            price_in = gr.Textbox(
                label="US$ per million input tokens", placeholder="unknown", max_lines=1, elem_id="models-price-in"
            )
            price_out = gr.Textbox(
                label="US$ per million output tokens", placeholder="unknown", max_lines=1, elem_id="models-price-out"
            )
        with gr.Row(elem_classes="under"):
            add = gr.Button("Add model", variant="primary", size="md", elem_id="models-add")
    parts = {
        "name": name, "address": address, "upstream_name": upstream_name, "credential": credential,
        "fallbacks": fallbacks, "price_in": price_in, "price_out": price_out,
    }  # fmt: skip
    return parts, add


def _upstream_name(spec: ModelSpec) -> str:
    """A hosted model's name at its provider, if it differs."""
    return f"as {spec.upstream.model}" if spec.upstream and spec.upstream.model != spec.id else ""


def _price(text: str) -> float | None:
    plain = (text or "").replace(",", "").replace("$", "").strip()
    if not plain:
        return None
    try:
        return float(plain)
    except ValueError:
        raise Invalid(f"{text!r} is not a price: use US dollars per million tokens, such as 0.30.") from None
