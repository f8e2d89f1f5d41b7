"""Gradio components: event options without spinners, live dropdowns, forms, confirmations."""

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar

import gradio as gr

# Options of an event listener: no spinner, no public API endpoint.
QUIET: Mapping[str, Any] = MappingProxyType({"show_progress": "hidden", "api_visibility": "private"})
# Options of an event that runs JavaScript in the browser and nothing on the server.
BROWSER_ONLY: Mapping[str, Any] = MappingProxyType({"fn": None, "queue": False, "api_visibility": "private"})

Form = TypeVar("Form")


def live_dropdown(**options: Any) -> gr.Dropdown:
    """A dropdown whose choices a handler fills, such as the list of models.

    Gradio rejects a value that this process has not offered, with a pop-up, as in every tab that is still open after
    a restart. Here the value reaches the handler unchecked, and the handler reports an unknown one.
    """
    # A value that may be typed needs a box to type it in.
    dropdown = gr.Dropdown([], filterable=bool(options.get("allow_custom_value")), **options)
    dropdown.preprocess = _unchanged  # type: ignore[method-assign] -- Gradio has no other hook for it
    return dropdown


def as_props(update: Mapping[Any, Any]) -> dict[int, dict[str, Any]]:
    """A handler's update as properties by component id, for a page's prefill. States are left out."""
    props: dict[int, dict[str, Any]] = {}
    for component, value in update.items():
        if isinstance(component, gr.State):
            continue
        is_update = isinstance(value, dict) and value.get("__type__") == "update"
        props[component._id] = (
            {key: part for key, part in value.items() if key != "__type__"} if is_update else {"value": value}
        )
    return props


def form_inputs(form: type, view: Any) -> set[Any]:
    """The view's components that fill the fields of the dataclass `form`, matched by name.

    Passed to Gradio as a set, they reach the handler as one dictionary.
    """
    inputs: set[Any] = set()
    for field in fields(form):
        component = getattr(view, field.name)
        inputs |= set(component) if isinstance(component, tuple) else {component}
    return inputs


def read_form(form: type[Form], view: Any, values: Mapping[Any, Any]) -> Form:
    """The dataclass `form`, filled from the values of the view's components of the same names."""
    read: dict[str, Any] = {}
    for field in fields(form):  # type: ignore[arg-type] -- a dataclass; TypeVar cannot say so
        component = getattr(view, field.name)
        is_group = isinstance(component, tuple)
        read[field.name] = tuple(values[part] for part in component) if is_group else values[component]
    return form(**read)


def confirm_row(button: gr.Button, yes: str, no: str, prefix: str) -> tuple[gr.Row, gr.Button]:
    """A row that replaces `button` when it is clicked and asks for confirmation: the row and its button for yes."""
    with gr.Row(visible=False, elem_classes="under", elem_id=f"{prefix}-sure") as row:
        yes_button = gr.Button(yes, variant="stop", size="sm", elem_id=f"{prefix}-yes")
        no_button = gr.Button(no, size="sm", elem_id=f"{prefix}-no")
    button.click(lambda: show_confirmation(button, row, True), None, [button, row], **QUIET)
    no_button.click(lambda: show_confirmation(button, row, False), None, [button, row], **QUIET)
    return row, yes_button


def show_confirmation(button: Any, row: Any, visible: bool) -> dict[Any, Any]:
    """The update that shows the confirmation instead of the button, or the button again."""
    return {row: gr.update(visible=visible), button: gr.update(visible=not visible)}


def _unchanged(payload: Any) -> Any:
    return payload
