"""`train()` and `resume()`: check the data, find the base, prepare rows, fit, and publish if a registry is given.

The only file that joins the folders of this room; each step is theirs.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.chat.system_messages import Folding
from models.database import new_ulid, utcnow
from models.errors import Invalid
from models.quantities import count_noun
from models.registry.registry import Registry
from models.settings.hub import use_hub_token
from models.settings.settings import Settings
from train.data.checks import CheckedData, Data
from train.hyperparameters import UNITS, Chosen
from train.publication.probes import choose, store_held_out, store_probes
from train.request import TrainingRequest
from train.run.checkpoints import CheckpointPlan, plan_checkpoints, thin
from train.run.failures import disk_is_full
from train.run.folder import (
    ADAPTER,
    CONFIG,
    LOG,
    METRICS,
    WEIGHTS,
    TrainingResult,
    find_run,
    interrupted,
    load_finished,
    lock_run,
    no_space,
    read_json,
)
from train.run.origins import environment, fingerprint, previous_threads, record_origin
from train.run.progress import MetricsFile, PlainLines, Progress, Stage, combine_listeners, silent
from train.run.trackers import check_trackers, tracking
from train.trainers.bases import Base, check_servable, find_base, load_tokenizer, require_plain_weights, with_options
from train.trainers.fit_job import FitJob, FitResult
from train.trainers.launch import launch
from train.trainers.node_values import describe_node
from train.trainers.preparation import Prepared, TrainingData, check_data, divide, fold_for_template, prepare
from train.trainers.rendezvous import Rendezvous, require_same
from train.trainers.runtime import Device, find_device, quiet
from train.trainers.templates import folding_of

_MEASURED_ROWS = 200  # training rows that the loss is measured on if nothing is held out


def train(
    data: Data | TrainingRequest,
    *,
    settings: Settings | None = None,
    registry: Registry | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    checked: CheckedData | None = None,
    rendezvous: Rendezvous | None = None,
    **fields: Any,
) -> TrainingResult:
    """Fine-tunes a chat model on the assistant's messages in conversations, or on pairs of answers.

    Args:
        data: training data, with the other fields of `TrainingRequest` as keywords (`base` is required); or a
            TrainingRequest.
        settings: where runs and models are stored, and the device. Without it `out` is needed.
        registry: where the base is looked up and the result is registered; needs `settings` and a name.
        out: the run's folder, created if missing; by default a new one under the settings' runs.
        resume: continue the run in `out` from its newest complete checkpoint, or begin it. The result is the same as
            without the interruption; on a CPU bit for bit. A finished run returns its result.
        progress: receives every event (`train.run.progress`); an exception that it raises ends the training.
        checked: what `check` reported for this data earlier; then it is not checked again.
        rendezvous: the connection to the other nodes if `request.nodes` > 1; this is node 0 (`train.nodes`).

    Returns:
        Losses before and after, tokens, seconds, where everything is, and all problems of the data.

    Raises:
        UnusableData: nothing to learn from; its `problems` say why. Invalid: an unusable base or value, or a run to
        resume whose data or configuration has changed. Unavailable: the base cannot be loaded. TrainingDiverged: the
        loss became NaN. OutOfMemory: a single row does not fit. NoSpace: the disk is full. Busy: another process
        holds this run.
    """
    request = data if isinstance(data, TrainingRequest) else TrainingRequest(data, **fields)
    if request.nodes > 1 and rendezvous is None:
        raise Invalid(f"A training on {request.nodes} nodes needs each of them: use train_on_nodes().", param="nodes")
    _check_target(request, settings, registry, out, resume)
    check_trackers(request.trackers)
    use_hub_token(settings.hub_token if settings else None)
    device = find_device(settings, request.gpus)
    base = with_options(find_base(request.base, registry), request.chat_template, request.trust_remote_code)
    if not base.is_adapter:
        require_plain_weights(base)
        if registry is not None:
            check_servable(base)
    with _run_folder(settings, out, resume, progress) as folder:
        emit = combine_listeners(MetricsFile(folder / METRICS), _log_events(folder), progress)
        result = load_finished(folder)
        if result:
            emit(Stage("This run has finished already"))
        else:
            result = TrainingRun(request, base, device, folder, emit, rendezvous).execute(registry, checked)
            result.save()
        thin(folder, result.loss_after)
        if registry is not None and settings is not None:
            from train.publication.publish import Publication, finish_publication, publish

            model = Publication(str(request.name), request.kind, request.job, request.bot, request.description)
            result = finish_publication(folder, registry, settings, request, emit) or publish(
                folder, model, registry=registry, settings=settings, progress=emit
            )
        shutil.rmtree(folder / "merged-base", ignore_errors=True)
    return result


def resume(
    run: str | Path, *, settings: Settings, registry: Registry | None = None, progress: Progress = silent
) -> TrainingResult:
    """Continues an interrupted run with its stored request, on this machine; a finished run returns its result.

    Args:
        run: the run's id, or its folder.

    Raises:
        NotFound: there is no such run. Invalid: its data was in memory, or has changed. What `train` raises.
    """
    folder = find_run(run, settings)
    stored = read_json(folder / CONFIG).get("asked") or {}
    if not stored.get("data"):
        raise Invalid(
            f"The run {folder.name} used data in memory: call train() with the same data, out= its folder and "
            "resume=True.",
            param="run",
        )
    request = replace(TrainingRequest.from_json(stored), nodes=1)
    return train(request, settings=settings, registry=registry, out=folder, resume=True, progress=progress)


@dataclass(frozen=True)
class TrainingRun:
    """One run up to its result: the data is checked and prepared, and the model is trained, but not published.

    With a `rendezvous` it is one node's part of the run; nodes after the first record nothing in `folder`.
    """

    request: TrainingRequest
    source: Base
    device: Device
    folder: Path
    emit: Progress
    rendezvous: Rendezvous | None = None

    @property
    def first(self) -> bool:
        """Whether this node writes the run."""
        return self.rendezvous is None or self.rendezvous.node.first

    def execute(self, registry: Registry | None, checked: CheckedData | None) -> TrainingResult:
        request, base = self.request, self.source
        data = divide(checked or check_data(request), request)
        if base.is_adapter:
            merged = _merge_base(base, registry, self.folder, self.emit)
            base = with_options(merged, request.chat_template, request.trust_remote_code)
        number, unit = len(data.train) + len(data.validation), UNITS[request.method]
        self.emit(Stage(f"{number:,} {unit}, {data.left_out:,} left out"))
        if not Path(base.location).is_dir():
            self.emit(Stage(f"Looking for {base.location} on the hub"))
        with quiet(self.folder / LOG):
            tokenizer = load_tokenizer(base)
            data = fold_for_template(data, request, tokenizer)
            prepared = prepare(data, request, base, tokenizer, self.device)
        for problem in prepared.warnings:
            self.emit(Stage(f"Warning: {problem.message} ({problem.mend})"))
        threads = request.threads or previous_threads(self.folder) or _default_threads()
        if self.rendezvous:
            own = describe_node(self.source, self.device, request, prepared, data)
            require_same(self.rendezvous.exchange("values", own, self.rendezvous.node.timeout_s))
            self.rendezvous.run_has_begun = True
        if self.first:
            self._record(base, data, prepared, threads, folding_of(request, tokenizer))
        with tracking(
            request.trackers if self.first else (), self.folder, request.name, prepared.resolved.values
        ) as tracker:
            run = replace(self, emit=combine_listeners(self.emit, tracker))
            return run.fit(base, tokenizer, prepared, threads)

    def _record(self, base: Base, data: TrainingData, prepared: Prepared, threads: int, folding: Folding) -> None:
        request, seed = self.request, self.request.hyperparameters.seed
        stored = replace(request, base=self.source.spec.id if self.source.spec else self.source.location)
        record_origin(
            self.folder,
            _config(request, base, prepared)
            | {"asked": stored.to_json(), "fold_system": folding if folding != "none" else None},
            fingerprint(request.data, data.train, data.validation, (*prepared.rows, *prepared.held)),
            environment(self.device.kind, threads, seed),
            self.emit,
        )
        store_probes(choose(data.validation, data.train), self.folder)
        store_held_out(data.validation, self.folder)

    def fit(self, base: Base, tokenizer: Any, prepared: Prepared, threads: int) -> TrainingResult:
        request, values = self.request, prepared.resolved.values
        unit = UNITS[values.method].removesuffix("s")
        self.emit(Stage(f"Training on {count_noun(prepared.examples, unit)}: {_describe(values)}"))
        job = FitJob(
            base=base,
            rows=prepared.rows,
            measured=prepared.held or prepared.rows[:_MEASURED_ROWS],
            hyperparameters=values,
            work=self.folder / "trainer",
            output=self.folder / (WEIGHTS if values.tune == "full" else ADAPTER),
            base_name=request.base_name or base.name,
            device=self.device,
            checkpoints=plan_checkpoints(self.folder, request.save_steps, self.emit)
            if self.first
            else CheckpointPlan(self.folder, request.save_steps),
            processes=request.gpus * request.nodes,
            nodes=request.nodes,
            shard=request.shard,
        )
        with quiet(self.folder / LOG, threads):
            fitted = launch(job, tokenizer, threads, self.emit, self.rendezvous)
        shutil.rmtree(job.work, ignore_errors=True)
        parent = self.source.spec.id if self.source.spec else None
        return _result(job, fitted, prepared, self.folder, request.name, parent)


def _check_target(
    request: TrainingRequest, settings: Settings | None, registry: Registry | None, out: Path | None, resume: bool
) -> None:
    """Before anything is loaded: the run and the model must have a place to go."""
    if registry is not None and (settings is None or not request.name):
        raise Invalid("To publish, training needs settings (where models live) and a name.", param="name")
    if registry is not None:
        from train.publication.publish import check_name, find_published

        if not (resume and out and find_published(out, registry, request)):
            check_name(registry, str(request.name))
    if resume and out is None:
        raise Invalid("To resume a run, give its folder as `out`.", param="out")


def _result(
    job: FitJob, fitted: FitResult, prepared: Prepared, folder: Path, name: str | None, parent: str | None
) -> TrainingResult:
    values = job.hyperparameters
    return TrainingResult(
        run_folder=folder,
        adapter=job.output,
        base=job.base.name,
        base_location=job.base.location,
        parent=parent,
        name=name,
        loss_before=fitted.before.loss,
        loss_after=fitted.after.loss,
        measured_on="validation" if prepared.held else "training",
        examples=prepared.examples,
        validation_examples=prepared.validation_examples,
        epochs=values.epochs,
        steps=fitted.steps,
        tokens=fitted.tokens,
        learnt_tokens=fitted.learnt_tokens,
        seconds=fitted.seconds,
        tokens_per_s=fitted.tokens / fitted.seconds,
        hyperparameters=asdict(values),
        reasons=prepared.resolved.reasons,
        masks=prepared.masks,
        problems=prepared.problems,
        method=values.method,
        accuracy_after=fitted.after.accuracy,
        margin_after=fitted.after.margin,
        best_step=fitted.best_step,
        peak_memory_bytes=fitted.peak_memory_bytes,
    )


@contextmanager
def _run_folder(settings: Settings | None, out: Path | None, resume: bool, progress: Progress) -> Iterator[Path]:
    """The run's folder, locked against other processes.

    After an error it stays if training has begun, because its log says what happened.
    """
    if out is None:
        if settings is None:
            raise Invalid("Training needs settings or an `out` folder, to know where to write.", param="out")
        out = settings.runs_dir / new_ulid()
    folder = out.absolute()
    if (folder / CONFIG).exists() and not resume:
        raise Invalid(f"{folder} holds a run already: choose another folder, or resume it.", param="out")
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock_run(folder):
            yield folder
    except BaseException as error:
        if created and not (folder / CONFIG).exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(OSError):
                _log_events(folder)(Stage(f"Ended: {error or type(error).__name__}"))
        if isinstance(error, KeyboardInterrupt) and interrupted(folder):
            progress(
                Stage(f"Interrupted: `parley train --resume {folder.name}` continues from the last complete checkpoint")
            )
        if disk_is_full(error):
            raise no_space(folder) from error
        raise


def _merge_base(base: Base, registry: Registry | None, folder: Path, emit: Progress) -> Base:
    """Plain weights of a base that is an adapter itself; they stay in the run's folder until the run ends."""
    from train.publication.merge import merge

    below = find_base(str(base.spec and base.spec.base), registry)
    emit(Stage(f"{base.name} is an adapter: merging it into {below.name} first"))
    shutil.rmtree(folder / "merged-base", ignore_errors=True)  # a killed process may have left it incomplete
    merge(below, Path(base.location), folder / "merged-base")
    return Base(below.name, str(folder / "merged-base"), base.spec, below.trust_remote_code)


def _default_threads() -> int:
    """Half of the cores that this process may use, at least 2: threads that wait for busy cores slow all others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, max(2, cores // 2))


def _log_events(folder: Path) -> Progress:
    def write(line: str) -> None:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{utcnow():%Y-%m-%d %H:%M:%S} {line}\n")

    return PlainLines(write)


def _config(request: TrainingRequest, base: Base, prepared: Prepared) -> dict[str, Any]:
    data, validation = request.data, request.validation
    return {
        "name": request.name,
        "method": prepared.resolved.values.method,
        "kind": request.kind,
        "base": base.name,
        "base_location": base.location,
        "data": str(data) if isinstance(data, str | Path) else "in memory",
        "validation": validation if isinstance(validation, int | float) else "data of its own",
        "examples": prepared.examples,
        "validation_examples": prepared.validation_examples,
        "hyperparameters": asdict(prepared.resolved.values),
        "reasons": prepared.resolved.reasons,
        "masks": list(prepared.masks),
        "started": utcnow().isoformat(timespec="seconds"),
    }


def _describe(values: Chosen) -> str:
    variants = {"QLoRA": values.tune == "qlora", "rsLoRA": values.rslora, "DoRA": values.dora}
    lora = " + ".join(name for name, used in variants.items() if used) or "LoRA"
    trained = "every weight" if values.tune == "full" else f"{lora} of rank {values.rank}"
    epochs = f"{values.epochs:g} {'epoch' if values.epochs == 1 else 'epochs'}"
    return f"{trained}, learning rate {values.learning_rate:g}, {epochs}, batches of {values.batch_size}"
