"""The form on the Models tab that adds a model with weights and sets its engine options."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import gradio as gr

from models.errors import Invalid
from models.registry.new_model import NewModel
from ui.backend.context import PageContext, error_message
from ui.look.components import QUIET, form_inputs, live_dropdown, read_form
from ui.look.markup import notice


class EngineField(NamedTuple):
    """An engine option on the form. `name`: the field of `models.spec.EngineOptions`. `read`: parses the text."""

    name: str
    label: str
    hint: str
    read: Callable[[str], Any] = str


# trust_remote_code and extra arguments can run code, so they can only be set on the command line.
ENGINE_FIELDS = (
    EngineField("max_model_len", "Context length, tokens", "the model's own", int),
    EngineField("dtype", "Number format", "auto"),
    EngineField("quantization", "Quantization", "as declared by the weights"),
    EngineField("max_lora_rank", "Highest LoRA rank", "64", int),
    EngineField("tensor_parallel_size", "GPUs that share each layer", "1", int),
    EngineField("pipeline_parallel_size", "Groups of GPUs that share the layers", "1", int),
    EngineField("gpu_memory_share", "Share of GPU memory, 0 to 1", "automatic", float),
    EngineField("sleep_after_s", "Sleep after seconds without a request", "engine_sleep_after_s", float),
    EngineField("replicas", "Engines that serve it", "1", int),
    EngineField("max_replicas", "Maximum under load", "a fixed number", int),
    EngineField("target_running", "Running requests per engine", "8", int),
    EngineField("tool_call_parser", "Tool call parser", "by model family"),
    EngineField("reasoning_parser", "Reasoning parser", "by model family"),
)


@dataclass(frozen=True)
class WeightsForm:
    """The form's values. `engine`: the texts of `ENGINE_FIELDS` in their order; empty for the default."""

    name: str
    path: str
    base: str | None
    fallbacks: list[str] | None
    pin: bool
    engine: tuple[str, ...]

    def new_model(self) -> NewModel:
        """The model to register.

        Raises:
            Invalid: a field is not valid.
        """
        if not self.name.strip() or not self.path.strip():
            raise Invalid("Enter the model's name and where its weights are: a folder or a hub id.")
        texts = zip(ENGINE_FIELDS, self.engine, strict=True)
        return NewModel(
            self.name.strip(),
            path=self.path.strip(),
            base=self.base or None,
            fallbacks=tuple(self.fallbacks or ()),
            engine={field.name: _read(field, text.strip()) for field, text in texts if text.strip()},
            pin=self.pin,
        )


@dataclass(frozen=True)
class WeightsView:
    """The components that the handler reads and updates."""

    name: gr.Textbox
    path: gr.Textbox
    base: gr.Dropdown
    fallbacks: gr.Dropdown
    pin: gr.Checkbox
    engine: tuple[gr.Textbox, ...]
    line: gr.HTML


class WeightsHandler:
    """The form's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: WeightsView) -> None:
        self._registry, self._view = context.registry, view

    async def choices(self) -> dict[Any, Any]:
        """Updates the lists of bases and fallbacks."""
        specs = await asyncio.to_thread(self._registry.list, include_candidates=True)
        bases = [spec.id for spec in specs if spec.kind in ("base", "merged")]
        return {
            self._view.base: gr.update(choices=["", *bases]),
            self._view.fallbacks: gr.update(choices=[spec.id for spec in specs]),
        }

    async def add(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Registers the model; a running Parley serves it from then on."""
        view, form = self._view, read_form(WeightsForm, self._view, values)
        try:
            spec = await asyncio.to_thread(form.new_model().register, self._registry)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.line: notice(error_message(error), "warn")}
        empty = dict.fromkeys((view.name, view.path, *view.engine), "") | {view.fallbacks: [], view.pin: False}
        line = notice(f"{spec.id} is registered as {spec.kind} and served from now on.", "good")
        return empty | await self.choices() | {view.line: line}


def build_weights_form(context: PageContext, tab: gr.Tab) -> gr.events.Dependency:
    """Lays out the form and wires its events; returns the event that follows an addition. Call it inside the tab."""
    with gr.Accordion("Add a model with weights", open=False, elem_classes="fold", elem_id="models-weights-form"):
        with gr.Row(elem_classes="form-row"):
            name = gr.Textbox(
                label="Model name for clients", placeholder="support-v2", max_lines=1, elem_id="models-weights-name"
            )
            path = gr.Textbox(
                label="Folder on this machine, or hub id", placeholder="/data/support-v2", max_lines=1,
                elem_id="models-weights-path",
            )  # fmt: skip
        with gr.Row(elem_classes="form-row"):
            base = live_dropdown(label="Base model, if it is an adapter", elem_id="models-weights-base")
            fallbacks = live_dropdown(label="Fallback models", multiselect=True, elem_id="models-weights-fallbacks")
        with gr.Accordion("Engine", open=False, elem_classes="fold", elem_id="models-weights-engine"):
            engine: tuple[gr.Textbox, ...] = ()
            for first in range(0, len(ENGINE_FIELDS), 2):
                with gr.Row(elem_classes="form-row"):
                    engine += tuple(_engine_box(field) for field in ENGINE_FIELDS[first : first + 2])
            pin = gr.Checkbox(label="Keep its engine in memory", elem_id="models-weights-pin")
        with gr.Row(elem_classes="under"):
            add = gr.Button("Add model", variant="primary", size="md", elem_id="models-weights-add")
        line = gr.HTML(elem_id="models-weights-line")
    view = WeightsView(name=name, path=path, base=base, fallbacks=fallbacks, pin=pin, engine=engine, line=line)
    handler = WeightsHandler(context, view)
    choices = [base, fallbacks]
    tab.select(handler.choices, None, choices, **QUIET)
    return add.click(
        handler.add, form_inputs(WeightsForm, view), [name, path, *choices, pin, *engine, line], trigger_mode="once",
        **QUIET,
    )  # fmt: skip


def _engine_box(field: EngineField) -> gr.Textbox:
    return gr.Textbox(label=field.label, placeholder=field.hint, max_lines=1, elem_id=f"models-weights-{field.name}")


def _read(field: EngineField, text: str) -> Any:
    try:
        return field.read(text)
    except ValueError:
        raise Invalid(f"{field.label}: {text!r} is not a number.", param=field.name) from None
