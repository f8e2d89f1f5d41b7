"""The Train tab: choose data, a base and a name, start, and watch the curves. It enqueues, watches and cancels.

The work is the worker's (`train.worker.jobs`); how a run looks is in `ui.owners.training.html`.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models.errors import Invalid, ParleyError
from models.files import Files, StoredFile
from models.jobs import Job, cancel, enqueue, get_job, list_jobs
from models.spec import ModelSpec
from ui.backend.context import Room, friendly
from ui.backend.model_options import notice
from ui.backend.uploads import PURPOSE, SUFFIXES, file_entry, named_path
from ui.look.components import BROWSER, QUIET, live_list
from ui.owners.training.auto_values import Asked, automatic
from ui.owners.training.html import (
    KINDS,
    Run,
    curves_plot,
    entries,
    numbers_html,
    read_run,
    result_html,
    rules_html,
    state_html,
)

_EVERY_S = 2.0
_NUMBERS = {"epochs": "Epochs", "rank": "LoRA rank", "learning_rate": "Learning rate", "batch_size": "Batch size"}
_DROP = f"""
<label id="train-drop" class="drop small" for="train-file" tabindex="0" data-purpose="{PURPOSE}"
data-came="train-uploaded">
<span><b>Drop a file of conversations</b> or choose one. It is kept with Parley’s files, on this machine.
<em id="train-sent" role="status"></em></span>
<input id="train-file" type="file" accept="{",".join(SUFFIXES)}"></label>
"""


@dataclass(frozen=True)
class TrainView:
    """The components that the handlers fill."""

    data: gr.Dropdown
    base: gr.Dropdown
    line: gr.HTML
    rules: gr.HTML
    start: gr.Button
    runs: gr.Dropdown
    state: gr.HTML
    numbers: gr.HTML
    plot: gr.Plot
    drawn: gr.Textbox
    result: gr.HTML
    stop: gr.Button
    sure: gr.Row
    timer: gr.Timer
    shown: gr.State
    how: gr.Accordion


class Train:
    """What the tab does. One instance serves every browser."""

    def __init__(self, room: Room, view: TrainView) -> None:
        self._room = room
        self._view = view

    async def refresh(self, data: str | None, base: str | None, run: str | None) -> dict[Any, Any]:
        """The files, bases and runs as they are now; the latest run is shown where none is chosen."""
        view = self._view
        try:
            files, bases, runs = await asyncio.gather(
                asyncio.to_thread(self._files), asyncio.to_thread(self._bases), asyncio.to_thread(self._runs)
            )
        except Exception as error:  # a fault here is a line on the page, not a pop-up
            return {view.line: notice(friendly(error), "bad")}
        data = data if any(file.id == data for file in files) else (files[0].id if files else None)
        base = base if any(spec.id == base for spec in bases) else (bases[0].id if bases else None)
        run = run if any(job.id == run for job in runs) else (runs[0].id if runs else None)
        update = {
            view.data: gr.update(choices=[(file_entry(file), file.id) for file in files], value=data),
            view.base: gr.update(choices=[(spec.id, spec.id) for spec in bases], value=base),
            view.runs: gr.update(choices=entries(runs), value=run, visible=bool(runs)),
            view.line: "" if bases else notice("No base is registered: `parley models add NAME --path …`.", "warn"),
        }
        return update | await self.watch(run, None)

    async def uploaded(self, base: str | None, run: str | None) -> dict[Any, Any]:
        """A file has come: the newest one is chosen."""
        return await self.refresh(None, base, run)

    async def explain(
        self, data: str | None, base: str | None, method: str, tune: str, share: float, *numbers: str
    ) -> str:
        """What every «auto» becomes with this data and base. HTML; the fault in a line where there is one."""
        if not data or not base:
            return ""
        try:
            asked = Asked(method, tune, share, dict(zip((*_NUMBERS, "max_length"), numbers, strict=True)))
            found = await asyncio.to_thread(self._automatic, data, base, asked)
        except ParleyError as error:
            return notice(error.message, "bad")
        return found

    async def begin(
        self,
        data: str | None,
        base: str | None,
        run: str | None,
        name: str,
        kind: str,
        method: str,
        tune: str,
        share: float,
        *numbers: str,
    ) -> dict[Any, Any]:
        """Enqueue the training and watch it."""
        view = self._view
        asked = Asked(method, tune, share, dict(zip((*_NUMBERS, "max_length"), numbers, strict=True)))
        try:
            job_id = await asyncio.to_thread(self._enqueue, data, base, name.strip(), kind, asked)
        except ParleyError as error:
            return {view.line: notice(error.message, "warn")}
        return {view.how: gr.update(open=False)} | await self.refresh(data, base, job_id)

    def ask(self) -> dict[Any, Any]:
        """Stopping is asked about once more."""
        return {self._view.sure: gr.update(visible=True), self._view.stop: gr.update(visible=False)}

    def keep_on(self) -> dict[Any, Any]:
        """No, it goes on."""
        return {self._view.sure: gr.update(visible=False), self._view.stop: gr.update(visible=True)}

    async def stop(self, run: str | None, shown: Any) -> dict[Any, Any]:
        """Cancel the run that is shown: its worker hears of it within seconds."""
        if run:
            try:
                await asyncio.to_thread(cancel, self._room.database, run)
            except ParleyError as error:
                return {self._view.line: notice(error.message, "bad")}
        return {self._view.sure: gr.update(visible=False)} | await self.watch(run, shown)

    async def choose(self, run: str | None) -> dict[Any, Any]:
        """Show another run."""
        return {self._view.sure: gr.update(visible=False)} | await self.watch(run, None)

    async def watch(self, run: str | None, shown: Any) -> dict[Any, Any]:
        """The chosen run as it stands, and its picture where that has changed.

        A new value makes Gradio take the whole plot away and draw another, which flickers. So only a run's first and
        last picture come that way; those in between go to the browser as JSON, and train.js moves the lines.
        """
        view = self._view
        if not run:
            return {view.state: "", view.timer: gr.update(active=False), view.plot: gr.update(visible=False)}
        try:
            seen, spec = await asyncio.to_thread(self._read, run)
        except ParleyError as error:
            return {view.state: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        update: dict[Any, Any] = {
            view.state: state_html(seen),
            view.numbers: numbers_html(seen),
            view.result: result_html(seen, spec),
            view.timer: gr.update(active=not seen.over),
        }
        # A row that asks whether one is sure stays while the run goes on.
        update |= {view.stop: gr.update(visible=False), view.sure: gr.update(visible=False)} if seen.over else {}
        if shown is None and not seen.over:
            update[view.stop] = gr.update(visible=True)
        pictured, status = shown or (None, None)
        if pictured != seen.seen or seen.over:
            figure = curves_plot(seen)
            if pictured and pictured[0] == run and pictured[1] and figure and not seen.over:
                update[view.drawn] = figure.to_json()
            else:
                update |= {view.plot: gr.update(value=figure, visible=figure is not None), view.drawn: ""}
        if status != seen.job.status:
            jobs = await asyncio.to_thread(self._runs)
            update[view.runs] = gr.update(choices=entries(jobs), value=run, visible=True)
        return update | {view.shown: (seen.seen, seen.job.status)}

    def _files(self) -> list[StoredFile]:
        return Files(self._room.settings, self._room.database).list(PURPOSE)

    def _bases(self) -> list[ModelSpec]:
        """What can be trained on: everything with weights here, bases first."""
        specs = [spec for spec in self._room.registry.list() if spec.kind != "hosted" and not spec.judge]
        return sorted(specs, key=lambda spec: (spec.kind != "base", spec.id))

    def _runs(self) -> list[Job]:
        jobs = [job for kind in KINDS for job in list_jobs(self._room.database, kind)]
        return sorted(jobs, key=lambda job: job.created, reverse=True)

    def _read(self, run: str) -> tuple[Run, ModelSpec | None]:
        job = get_job(self._room.database, run)
        spec = None
        if job.status == "succeeded" and job.result and job.result.get("model"):
            with suppress(ParleyError):
                spec = self._room.registry.resolve(str(job.result["model"]))
        return read_run(self._room.settings, job), spec

    def _automatic(self, data: str, base: str, asked: Asked) -> str:
        resolved, told = automatic(named_path(self._room, data), self._room.registry.resolve(base), asked)
        return told + rules_html(resolved.reasons, vars(resolved.values)) if resolved else told

    def _enqueue(self, data: str | None, base: str | None, name: str, kind: str, asked: Asked) -> str:
        from train.publication.publish import check_name

        if not data:
            raise Invalid("Upload a file of conversations first.", param="data")
        if not base:
            raise Invalid("Choose a base.", param="base")
        if not name:
            raise Invalid("Give the new model a name: clients will send it as `model`.", param="name")
        check_name(self._room.registry, name)
        params = {
            "data": str(named_path(self._room, data)),
            "base": base,
            "name": name,
            "kind": kind,
            "method": asked.method,
            "validation": asked.share,
            "hyperparameters": asked.hyperparameters(),
        }
        return enqueue(self._room.database, "train", params)


def train_tab(room: Room, tab: gr.Tab) -> None:
    """Lay out the tab and wire it. Call inside the tab."""
    gr.HTML(
        "<p class='lead'>Fine-tune a model on your conversations: what the assistant says is learnt, and nothing else. "
        "The Data tab says what is wrong with a file.</p>"
    )
    with gr.Row(elem_classes="form-row"):
        data = live_list(label="Conversations", elem_id="train-data")
        base = live_list(label="Base", elem_id="train-base")
        name = gr.Textbox(label="Name of the new model", placeholder="support-v1", max_lines=1, elem_id="train-name")
    gr.HTML(_DROP)
    came = gr.Button(elem_id="train-uploaded", elem_classes="offstage")
    with gr.Accordion("How to train", open=False, elem_classes="fold", elem_id="train-how") as how:
        with gr.Row(elem_classes="form-row"):
            kinds = [("an adapter on its base’s engine", "adapter"), ("merged, an engine of its own", "merged")]
            kind = gr.Radio(kinds, value="adapter", label="Served as", elem_id="train-kind")
            methods = [("SFT: learn the answers", "sft"), ("DPO: prefer one of two", "dpo")]
            method = gr.Radio(methods, value="sft", label="Method", elem_id="train-method")
            tunes = [("LoRA", "lora"), ("QLoRA, 4 bits", "qlora"), ("all weights", "full")]
            tune = gr.Radio(tunes, value="lora", label="What learns", elem_id="train-tune")
        with gr.Row(elem_classes="form-row numbers"):
            numbers = [
                gr.Textbox("auto", label=label, max_lines=1, min_width=120, elem_id=f"train-{key.replace('_', '-')}")
                for key, label in (*_NUMBERS.items(), ("max_length", "Longest, in tokens"))
            ]
            share = gr.Slider(0, 0.5, value=0.1, step=0.05, label="Held out", min_width=220, elem_id="train-share")
        rules = gr.HTML(elem_id="train-rules")
    line = gr.HTML(elem_id="train-line")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start training", variant="primary", size="md", elem_id="train-start")
    runs = live_list(label="Runs", visible=False, elem_id="train-runs")
    state = gr.HTML(elem_id="train-state")
    result = gr.HTML(elem_id="train-result")
    figures = gr.HTML(elem_id="train-numbers")
    plot = gr.Plot(show_label=False, container=False, buttons=[], visible=False, elem_id="train-plot")
    drawn = gr.Textbox(elem_id="train-drawn", elem_classes="offstage")
    with gr.Row(elem_classes="under"):
        stop = gr.Button("Cancel this run", size="sm", visible=False, elem_id="train-stop")
    with gr.Row(visible=False, elem_classes="under", elem_id="train-sure") as sure:
        yes = gr.Button("Yes, stop it for good", variant="stop", size="sm", elem_id="train-yes")
        no = gr.Button("No, go on", size="sm", elem_id="train-no")
    timer = gr.Timer(_EVERY_S, active=False)
    shown = gr.State(None)
    view = TrainView(
        data, base, line, rules, start, runs, state, figures, plot, drawn, result, stop, sure, timer, shown, how
    )
    handlers = Train(room, view)
    watched = [state, figures, plot, drawn, result, stop, sure, timer, shown, runs]
    everything = [data, base, line, *watched]
    asked = [method, tune, share, *numbers]
    explained = [data, base, *asked]
    tab.select(handlers.refresh, [data, base, runs], everything, **QUIET).then(
        handlers.explain, explained, rules, **QUIET
    )
    came.click(handlers.uploaded, [base, runs], everything, **QUIET).then(handlers.explain, explained, rules, **QUIET)
    for one in (data, base, method, tune):
        one.input(handlers.explain, explained, rules, **QUIET)
    for number in numbers:
        number.blur(handlers.explain, explained, rules, **QUIET)
    share.release(handlers.explain, explained, rules, **QUIET)
    start.click(
        handlers.begin, [data, base, runs, name, kind, *asked], [*everything, how], trigger_mode="once", **QUIET
    )
    stop.click(handlers.ask, None, [stop, sure], **QUIET)
    no.click(handlers.keep_on, None, [stop, sure], **QUIET)
    yes.click(handlers.stop, [runs, shown], [line, *watched], **QUIET)
    runs.input(handlers.choose, [runs], watched, **QUIET)
    timer.tick(handlers.watch, [runs, shown], watched, **QUIET)
    drawn.change(inputs=[drawn], js="(figure) => parleyTrain.draw(figure)", **BROWSER)
