"""The Train tab: choose data, a base and a name, start a training and watch it. The worker does the work.

What a run looks like is in `run_html.py`.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr

from models import chat_templates
from models.errors import Invalid, ParleyError
from models.files.file_kinds import TRAINING_SUFFIXES
from models.files.stored_files import Files, StoredFile
from models.jobs.jobs import Job, cancel, enqueue, get_job, list_jobs
from models.quantities import count_noun
from models.spec import ModelSpec
from train.data.endpoint import DataCheck, DataFile
from ui.backend.context import PageContext, error_message
from ui.backend.uploads import TRAINING_PURPOSE, file_label, path_with_suffix
from ui.look.components import BROWSER_ONLY, QUIET, confirm_row, form_inputs, live_dropdown, read_form
from ui.look.markup import notice
from ui.owners.data.html import tokens_html
from ui.owners.training.auto_values import HELD_OUT, NUMBERS, TrainingForm, preview_auto_values
from ui.owners.training.run import KINDS, Run, read_run, run_options
from ui.owners.training.run_html import auto_values_html, curves_plot, numbers_html, result_html, state_html
from ui.owners.training.votes import put_to_vote, store_votes_as_pairs

_REFRESH_S = 2.0
_DROP = f"""
<label id="train-drop" class="drop small" for="train-file" tabindex="0" data-purpose="{TRAINING_PURPOSE}"
data-uploaded="train-uploaded">
<span><b>Drop a file of conversations here</b>, or click to choose one. It is stored on the Parley server.
<em id="train-sent" role="status"></em></span>
<input id="train-file" type="file" accept="{",".join(TRAINING_SUFFIXES)}"></label>
"""


@dataclass(frozen=True)
class TrainView:
    """The components that the handlers read and update; the first ones are the fields of `TrainingForm`."""

    data: gr.Dropdown
    base: gr.Dropdown
    name: gr.Textbox
    kind: gr.Radio
    method: gr.Radio
    tune: gr.Radio
    share: gr.Number
    numbers: tuple[gr.Textbox, ...]
    fold_system: gr.Checkbox
    chat_template: gr.Dropdown
    settings: gr.Accordion
    rules: gr.HTML
    uploaded: gr.Button
    votes: gr.Button
    count: gr.Button
    tokens: gr.HTML
    line: gr.HTML
    start: gr.Button
    runs: gr.Dropdown
    state: gr.HTML
    result: gr.HTML
    vote: gr.Button
    voted: gr.HTML
    figures: gr.HTML
    plot: gr.Plot
    drawn: gr.Textbox
    stop: gr.Button
    sure: gr.Row
    timer: gr.Timer
    shown: gr.State


class TrainTab:
    """The tab's handlers. One instance serves every browser."""

    def __init__(self, context: PageContext, view: TrainView) -> None:
        self._context = context
        self._view = view
        self._checks = DataCheck()

    async def refresh(self, data: str | None, base: str | None, run: str | None) -> dict[Any, Any]:
        """Updates the files, bases and runs; shows the latest run if none is chosen."""
        view = self._view
        try:
            files, bases, runs = await asyncio.gather(
                asyncio.to_thread(self._files), asyncio.to_thread(self._bases), asyncio.to_thread(self._runs)
            )
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return {view.line: notice(error_message(error), "bad")}
        # A choice that stays is not sent again: an upload that ends meanwhile makes another.
        kept = not files or any(file.id == data for file in files)
        chosen: dict[str, Any] = {} if kept else {"value": files[0].id}
        base = base if any(spec.id == base for spec in bases) else (bases[0].id if bases else None)
        run = run if any(job.id == run for job in runs) else (runs[0].id if runs else None)
        no_base = notice("There is no base model yet. Add one: `parley models add NAME --path …`.", "warn")
        update = {
            view.data: gr.update(choices=[(file_label(file), file.id) for file in files], **chosen),
            view.base: gr.update(choices=[(spec.id, spec.id) for spec in bases], value=base),
            view.runs: gr.update(choices=run_options(runs), value=run, visible=bool(runs)),
            view.line: "" if bases else no_base,
        }
        return update | await self.watch(run, None)

    async def refresh_after_upload(self, base: str | None, run: str | None) -> dict[Any, Any]:
        """Chooses the file that was uploaded last."""
        return await self.refresh(None, base, run)

    async def use_votes(self, base: str | None, run: str | None) -> dict[Any, Any]:
        """Selects the votes so far as the training data, and DPO as the method."""
        view = self._view
        try:
            stored, pairs = await asyncio.to_thread(store_votes_as_pairs, self._context)
        except ParleyError as error:
            return {view.line: notice(error.message, "warn")}
        chosen = await self.refresh(stored.id, base, run)
        line = notice(
            f"{stored.filename} has {count_noun(pairs, 'preference pair')} from the votes. The method is now DPO.",
            "good",
        )
        chosen[view.data] |= {"value": stored.id}
        return chosen | {view.method: "dpo", view.line: line}

    async def put_to_vote(self, run: str | None) -> dict[Any, Any]:
        """Adds the run's model to the open vote."""
        try:
            job = await asyncio.to_thread(get_job, self._context.database, run or "")
            html = await asyncio.to_thread(put_to_vote, self._context, str((job.result or {}).get("model")))
        except ParleyError as error:
            return {self._view.voted: notice(error.message, "warn")}
        return {self._view.voted: html}

    async def preview(self, values: dict[Any, Any]) -> str:
        """What each "auto" becomes with this data and base, as HTML; or what is wrong, in one line."""
        form = read_form(TrainingForm, self._view, values)
        if not form.data or not form.base:
            return ""
        try:
            return await asyncio.to_thread(self._preview, form.data, form.base, form)
        except ParleyError as error:
            return notice(error.message, "bad")

    async def count_tokens(self, values: dict[Any, Any]) -> str:
        """The tokens of the chosen file by the base's own tokenizer, as HTML; or what is wrong, in one line."""
        form, context = read_form(TrainingForm, self._view, values), self._context
        if not form.data or not form.base:
            return notice("Choose a training file and a base model first.", "warn")
        try:
            path = await asyncio.to_thread(path_with_suffix, context, form.data)
            sent = DataFile(path, path.name, {"provider": "local", "model": form.base})
            report = await self._checks.check_file(context.settings, context.registry, sent)
        except Exception as error:  # shown as a line on the page, not as a pop-up
            return notice(error_message(error), "bad")
        return tokens_html(report["tokens"]) or notice("The file has no examples that can be counted.", "warn")

    async def begin(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Enqueues the training and watches it."""
        view, form = self._view, read_form(TrainingForm, self._view, values)
        try:
            job_id = await asyncio.to_thread(self._enqueue, form)
        except ParleyError as error:
            return {view.line: notice(error.message, "warn")}
        return {view.settings: gr.update(open=False)} | await self.refresh(form.data, form.base, job_id)

    async def stop(self, run: str | None, shown: Any) -> dict[Any, Any]:
        """Cancels the run; its worker notices within seconds."""
        if run:
            try:
                await asyncio.to_thread(cancel, self._context.database, run)
            except ParleyError as error:
                return {self._view.line: notice(error.message, "bad")}
        return {self._view.sure: gr.update(visible=False)} | await self.watch(run, shown)

    async def choose(self, run: str | None) -> dict[Any, Any]:
        """Shows another run."""
        return {self._view.sure: gr.update(visible=False)} | await self.watch(run, None)

    async def watch(self, run: str | None, shown: Any) -> dict[Any, Any]:
        """Updates the run's state, and its plot if that has changed.

        A new value makes Gradio replace the whole plot, which flickers. So only a run's first and last plot are sent
        that way; those in between go to the browser as JSON, and train.js moves the lines.
        """
        view = self._view
        if not run:
            return {view.state: "", view.timer: gr.update(active=False), view.plot: gr.update(visible=False)}
        try:
            current, spec = await asyncio.to_thread(self._read, run)
        except ParleyError as error:
            return {view.state: notice(error.message, "bad"), view.timer: gr.update(active=False)}
        update: dict[Any, Any] = {
            view.state: state_html(current),
            view.figures: numbers_html(current),
            view.result: result_html(current, spec),
            view.vote: gr.update(visible=spec is not None),
            view.voted: "",
            view.timer: gr.update(active=not current.over),
        }
        if current.over:
            update |= {view.stop: gr.update(visible=False), view.sure: gr.update(visible=False)}
        elif shown is None:  # later the confirmation may be open, and stays open
            update[view.stop] = gr.update(visible=True)
        version, status = shown or (None, None)
        if version != current.plot_version or current.over:
            figure = curves_plot(current)
            is_drawn = version and version[0] == run and version[1]
            if is_drawn and figure and not current.over:
                update[view.drawn] = figure.to_json()
            else:
                update |= {view.plot: gr.update(value=figure, visible=figure is not None), view.drawn: ""}
        if status != current.job.status:
            jobs = await asyncio.to_thread(self._runs)
            update[view.runs] = gr.update(choices=run_options(jobs), value=run, visible=True)
        return update | {view.shown: (current.plot_version, current.job.status)}

    def _files(self) -> list[StoredFile]:
        return Files(self._context.settings, self._context.database).list(TRAINING_PURPOSE)

    def _bases(self) -> list[ModelSpec]:
        """The models that can be trained further: those with local weights, bases first."""
        specs = [spec for spec in self._context.registry.list() if spec.kind != "hosted" and not spec.judge]
        return sorted(specs, key=lambda spec: (spec.kind != "base", spec.id))

    def _runs(self) -> list[Job]:
        jobs = [job for kind in KINDS for job in list_jobs(self._context.database, kind)]
        return sorted(jobs, key=lambda job: job.created, reverse=True)

    def _read(self, run: str) -> tuple[Run, ModelSpec | None]:
        job = get_job(self._context.database, run)
        spec = None
        if job.status == "succeeded" and job.result and job.result.get("model"):
            with suppress(ParleyError):
                spec = self._context.registry.resolve(str(job.result["model"]))
        return read_run(self._context.settings, job), spec

    def _preview(self, data: str, base: str, form: TrainingForm) -> str:
        path, spec = path_with_suffix(self._context, data), self._context.registry.resolve(base)
        resolved, html = preview_auto_values(path, spec, form)
        return html + auto_values_html(resolved.reasons, vars(resolved.values)) if resolved else html

    def _enqueue(self, form: TrainingForm) -> str:
        from train.publication.publish import check_name

        name = form.name.strip()
        if not form.data:
            raise Invalid("Upload a file of conversations first.", param="data")
        if not form.base:
            raise Invalid("Choose a base model.", param="base")
        if not name:
            raise Invalid("Enter a name for the new model. Clients send it as `model`.", param="name")
        check_name(self._context.registry, name)
        params = {
            "data": str(path_with_suffix(self._context, form.data)),
            "base": form.base,
            "name": name,
            "kind": form.kind,
            "method": form.method,
            "validation": form.held_out(),
            "hyperparameters": form.hyperparameters(),
            **form.template_options(),
        }
        return enqueue(self._context.database, "train", params)


def build_train_tab(context: PageContext, tab: gr.Tab) -> None:
    """Lays out the tab and wires its events. Call it inside the tab."""
    gr.HTML(
        "<p class='lead'>Fine-tune a model on your conversations, so that it answers as your assistant does. "
        "Check your file in the Data tab first.</p>"
    )
    form = _form()
    line = gr.HTML(elem_id="train-line")
    with gr.Row(elem_classes="under"):
        start = gr.Button("Start training", variant="primary", size="md", elem_id="train-start")
    runs = live_dropdown(label="Runs", visible=False, elem_id="train-runs")
    state = gr.HTML(elem_id="train-state")
    result = gr.HTML(elem_id="train-result")
    with gr.Row(elem_classes="under"):
        vote = gr.Button("Put it to a vote", size="sm", visible=False, elem_id="train-vote")
    voted = gr.HTML(elem_id="train-voted")
    figures = gr.HTML(elem_id="train-numbers")
    plot = gr.Plot(show_label=False, container=False, buttons=[], visible=False, elem_id="train-plot")
    drawn = gr.Textbox(elem_id="train-drawn", elem_classes="offstage")
    with gr.Row(elem_classes="under"):
        stop = gr.Button("Cancel this run", size="sm", visible=False, elem_id="train-stop")
    sure, yes = confirm_row(stop, "Yes, cancel this run", "No, continue", "train")
    view = TrainView(
        **form, line=line, start=start, runs=runs, state=state, result=result, vote=vote, voted=voted,
        figures=figures, plot=plot, drawn=drawn,
        stop=stop, sure=sure, timer=gr.Timer(_REFRESH_S, active=False), shown=gr.State(None),
    )  # fmt: skip
    _wire(TrainTab(context, view), view, tab, yes)


def _form() -> dict[str, Any]:
    """The form's components by their names in `TrainView`."""
    with gr.Row(elem_classes="form-row"):
        data = live_dropdown(label="Training file", elem_id="train-data")
        base = live_dropdown(label="Base model", elem_id="train-base")
        name = gr.Textbox(label="Name of the new model", placeholder="support-v1", max_lines=1, elem_id="train-name")
    gr.HTML(_DROP)
    uploaded = gr.Button(elem_id="train-uploaded", elem_classes="offstage")
    with gr.Row(elem_classes="under"):
        votes = gr.Button("Use the votes as preference pairs", size="sm", elem_id="train-votes")
        count = gr.Button("Count the tokens", size="sm", elem_id="train-count")
    tokens = gr.HTML(elem_id="train-tokens")
    with gr.Accordion("Training settings", open=False, elem_classes="fold", elem_id="train-how") as settings:
        with gr.Row(elem_classes="form-row"):
            kinds = [("adapter, shares its base’s engine", "adapter"), ("merged, has its own engine", "merged")]
            kind = gr.Radio(kinds, value="adapter", label="Result", elem_id="train-kind")
            methods = [
                ("SFT: learn from answers", "sft"),
                ("DPO: learn from preference pairs", "dpo"),
                ("KTO: learn from answers labelled good or bad", "kto"),
            ]
            method = gr.Radio(methods, value="sft", label="Method", elem_id="train-method")
            tunes = [("LoRA", "lora"), ("QLoRA (4-bit)", "qlora"), ("all weights", "full")]
            tune = gr.Radio(tunes, value="lora", label="Weights to train", elem_id="train-tune")
        with gr.Row(elem_classes="form-row numbers"):
            numbers = tuple(
                gr.Textbox("auto", label=label, max_lines=1, min_width=120, elem_id=f"train-{key.replace('_', '-')}")
                for key, label in NUMBERS.items()
            )
            share = HELD_OUT.component(0.1, step=0.05, min_width=220, elem_id="train-share")
        with gr.Row(elem_classes="form-row"):
            own = ("the base’s own", "")
            chat_template = gr.Dropdown(
                [own, *((name, name) for name in chat_templates.names())], value="", label="Chat template",
                elem_id="train-template",
            )  # fmt: skip
            fold_system = gr.Checkbox(
                False, label="Put system messages that the template does not support into user turns",
                elem_id="train-fold",
            )  # fmt: skip
        rules = gr.HTML(elem_id="train-rules")
    return {
        "data": data, "base": base, "name": name, "kind": kind, "method": method, "tune": tune, "share": share,
        "numbers": numbers, "settings": settings, "rules": rules, "uploaded": uploaded,
        "votes": votes, "count": count, "tokens": tokens, "fold_system": fold_system, "chat_template": chat_template,
    }  # fmt: skip


def _wire(train: TrainTab, view: TrainView, tab: gr.Tab, yes: gr.Button) -> None:
    form = form_inputs(TrainingForm, view)
    watched = [
        view.state, view.figures, view.plot, view.drawn, view.result, view.vote, view.voted,
        view.stop, view.sure, view.timer, view.shown,
        view.runs,
    ]  # fmt: skip
    everything = [view.data, view.base, view.line, *watched]
    refreshed = tab.select(train.refresh, [view.data, view.base, view.runs], everything, **QUIET)
    uploaded = view.uploaded.click(train.refresh_after_upload, [view.base, view.runs], everything, **QUIET)
    chosen = view.votes.click(train.use_votes, [view.base, view.runs], [view.method, *everything], **QUIET)
    view.vote.click(train.put_to_vote, [view.runs], [view.voted], trigger_mode="once", **QUIET)
    for event in (refreshed, uploaded, chosen):
        event.then(train.preview, form, view.rules, **QUIET)
    for part in (view.data, view.base, view.method, view.tune):
        part.input(train.preview, form, view.rules, **QUIET)
    for number in view.numbers:
        number.blur(train.preview, form, view.rules, **QUIET)
    view.share.blur(train.preview, form, view.rules, **QUIET)
    view.count.click(train.count_tokens, form, view.tokens, trigger_mode="once", show_progress="minimal",
                     api_visibility="private")  # fmt: skip
    view.start.click(train.begin, form, [*everything, view.settings], trigger_mode="once", **QUIET)
    yes.click(train.stop, [view.runs, view.shown], [view.line, *watched], **QUIET)
    view.runs.input(train.choose, [view.runs], watched, **QUIET)
    view.timer.tick(train.watch, [view.runs, view.shown], watched, **QUIET)
    view.drawn.change(inputs=[view.drawn], js="(figure) => parleyTrain.draw(figure)", **BROWSER_ONLY)
