"""The form on the Models tab that points an alias to a model, or splits it between several."""

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid
from models.registry.alias_weights import describe_weights, parse_weights
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, form_inputs, read_form
from ui.look.markup import notice


@dataclass(frozen=True)
class AliasForm:
    """What the form holds. `to`: a model, or several with their weights, such as a=90,b=10."""

    alias: str
    to: str


@dataclass(frozen=True)
class AliasView:
    """The components that the handler reads and updates."""

    alias: gr.Textbox
    to: gr.Textbox
    line: gr.HTML


class AliasHandler:
    """The form's handler. One instance serves every browser."""

    def __init__(self, context: PageContext, view: AliasView) -> None:
        self._registry, self._view = context.registry, view

    async def save(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Sets the alias. Running requests stay with the model that they have."""
        try:
            text = await asyncio.to_thread(self._save, read_form(AliasForm, self._view, values))
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {self._view.line: notice(error_message(error), "warn")}
        return {self._view.line: notice(text, "good")}

    def _save(self, form: AliasForm) -> str:
        alias, to = (form.alias or "").strip(), (form.to or "").strip()
        if not alias or not to:
            raise Invalid("Enter an alias and a model, or several models with weights, such as a=90,b=10.")
        if "=" not in to and "," not in to:
            self._registry.alias(alias, to)
            return f"{alias} now points to {to}."
        weights = parse_weights(to)
        self._registry.split_alias(alias, weights)
        return f"{alias} is split: {describe_weights(weights)}. The same user always gets the same model."


def build_alias_form(context: PageContext) -> None:
    """Lays out the form and wires its event. Call it inside the tab."""
    with gr.Accordion(
        "Point an alias to a model, or split it between several", open=False, elem_classes="fold",
        elem_id="models-alias-form",
    ):  # fmt: skip
        with gr.Row(elem_classes="form-row"):
            alias = gr.Textbox(label="Alias", placeholder="support", max_lines=1, elem_id="models-alias")
            to = gr.Textbox(
                label="Model, or models with weights", placeholder="support-v3=90, support-v4=10", max_lines=1,
                elem_id="models-alias-to",
            )  # fmt: skip
        with gr.Row(elem_classes="under"):
            save = gr.Button("Set alias", variant="primary", size="md", elem_id="models-alias-save")
        line = gr.HTML(elem_id="models-alias-line")
    view = AliasView(alias=alias, to=to, line=line)
    save.click(AliasHandler(context, view).save, form_inputs(AliasForm, view), [line], trigger_mode="once", **QUIET)
