"""The whole of a training: data checked, base found, rows made, adapter trained, and published where it is asked.

It puts the other files of this room together; each step's knowledge is theirs.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from models.database import new_ulid, utcnow
from models.errors import Invalid
from models.registry import Registry
from models.settings import Settings
from models.spec import BotProfile
from train.data.checks import Data, require_usable
from train.data.readers import Columns
from train.hyperparameters import Chosen, Hyperparameters, Method
from train.publication.probes import choose, keep, keep_held_out
from train.run.checkpoints import thin
from train.run.failures import disk_is_full
from train.run.origins import environment, fingerprint
from train.run.progress import MetricsFile, PlainLines, Progress, Stage, silent, together
from train.run.result import ADAPTER, CONFIG, LOG, METRICS, WEIGHTS, TrainingResult
from train.run.resume import (
    alone,
    asked_for,
    finished,
    interrupted,
    no_space,
    note_origin,
    pick_up,
    published_before,
    published_by,
    threads_before,
    within_memory,
)
from train.run.trackers import check_trackers, tracking
from train.trainers.bases import Base, find_base, load_tokenizer
from train.trainers.devices import Device, find_device
from train.trainers.library_output import quiet
from train.trainers.preparation import Prepared, checked_for_training, divide, prepare

_MEASURED_ROWS = 200  # training rows that the loss is measured on where nothing is held out


def train(
    data: Data,
    *,
    base: str | Path,
    name: str | None = None,
    method: Method = "sft",
    kind: Literal["adapter", "merged"] = "adapter",
    settings: Settings | None = None,
    registry: Registry | None = None,
    out: Path | None = None,
    base_name: str | None = None,
    hyperparameters: Hyperparameters | None = None,
    validation: float | Data = 0.1,
    columns: Columns | None = None,
    format: str = "auto",  # noqa: A002 -- as the flag
    per_turn: bool = False,
    progress: Progress = silent,
    trackers: Sequence[str] = (),
    gpus: int = 1,
    threads: int | None = None,
    job: str | None = None,
    bot: BotProfile | None = None,
    description: str = "",
    save_steps: int | Literal["auto"] = "auto",
    resume: bool = False,
) -> TrainingResult:
    """Fine-tunes a chat model on conversations, on the assistant's words only, or on pairs of answers.

    Args:
        data: a file (.jsonl, .csv, .tsv), or examples, conversations or `{"messages": …}` rows in memory.
        base: a registered model's id, a local folder, or a hub id.
        name: what the result is served as. With `settings` or `registry` it is published under that id.
        method: "sft" learns what the assistant says; "dpo" learns, from pairs, to prefer one answer to another, and
            `data` is then preference rows, or `Preference`s.
        kind: publish the adapter, on its base's engine, or weights merged with it, on an engine of their own. Some
            adapters can only be merged (`publishing` says which).
        settings: where runs and models live, and the device. Without it `out` is needed.
        registry: where the base is looked up and the result is registered; needs `settings`.
        out: the run's folder, made if missing; without it a fresh one under the settings' runs.
        base_name: what adapter_config.json calls the base; its id or folder's name without it.
        hyperparameters: every "auto" becomes a number by a rule that the result tells.
        validation: the share held out to measure the loss, 0 to 0.5; or data of its own, like `data`.
        columns: names the columns of a CSV, and a system text.
        format: how the data's rows are written (`train.data.formats` names them); "auto" sees for itself.
        per_turn: learn each answer of a conversation as an example of its own, with all that was said before it.
        progress: told of stages, steps and validations (`train.run.progress`).
        trackers: where the numbers go besides: "wandb", "tensorboard", "trackio", each installed by the user.
        gpus: processes that share each batch, one for each GPU; on a CPU they only show that it works.
        threads: CPU threads; half of the cores without it, 2 at least, because engines may be using the others.
            One number gives one result, bit for bit.
        job, bot, description: go into the published spec.
        save_steps: steps between checkpoints; "auto" for about one in three minutes. Each epoch's end has one anyway.
        resume: go on with the run in `out` from its newest whole checkpoint, or begin it where there is none. It
            ends as it would have ended: on a CPU, bit for bit. A finished run gives its result.

    Returns:
        The losses before and after, tokens, seconds, where everything is, and all problems of the data.

    Raises:
        UnusableData: nothing that could be learnt; its `problems` say why. Invalid: a base or a value that cannot
        be, or a run to resume that is not the same any more. Unavailable: the base cannot be loaded.
        TrainingDiverged: the loss became NaN. OutOfMemory: one row alone is too much. NoSpace: the disk is full.
        Busy: another process is at this run.
    """
    if registry is not None and (settings is None or not name):
        raise Invalid("To publish, training needs settings (where models live) and a name.", param="name")
    if registry is not None:
        from train.publication.publish import check_name

        if not (resume and out and published_by(out, registry, str(name), job)):
            check_name(registry, str(name))
    if resume and out is None:
        raise Invalid("To resume a run, give its folder as `out`.", param="out")
    if save_steps != "auto" and save_steps < 1:
        raise Invalid(f'save_steps is {save_steps!r}: use "auto", or a number of steps from 1.', param="save_steps")
    hyperparameters = hyperparameters or Hyperparameters()
    check_trackers(trackers)
    device = find_device(settings, gpus)
    source = find_base(base, registry)
    asked = asked_for(
        data=data, base=source.spec.id if source.spec else source.location, name=name, method=method, kind=kind,
        base_name=base_name, hyperparameters=hyperparameters, validation=validation, columns=columns,
        format=format, per_turn=per_turn,
        trackers=list(trackers), gpus=gpus, threads=threads, job=job, bot=bot, description=description,
        save_steps=save_steps,
    )  # fmt: skip
    with _run_folder(settings, out, resume, progress) as folder:
        tell = together(MetricsFile(folder / METRICS), _log(folder), progress)
        result = finished(folder)
        if result:
            tell(Stage("This run has finished already"))
        else:
            checked = require_usable(checked_for_training(data, validation, columns, format))
            parts = divide(checked, validation, hyperparameters.seed, method, per_turn=per_turn)
            parent = source.spec.id if source.spec else None
            if source.is_adapter:
                source = _merged_first(source, registry, folder, tell)
            number = len(parts.train) + len(parts.validation)
            tell(Stage(f"{number:,} {'pairs' if method == 'dpo' else 'conversations'}, {checked.left_out:,} left out"))
            if not Path(source.location).is_dir():
                tell(Stage(f"Looking for {source.location} on the hub"))
            with quiet(folder / LOG):
                tokenizer = load_tokenizer(source)
                prepared = prepare(checked, parts, tokenizer, source, hyperparameters, device, method, gpus)
            threads = threads or threads_before(folder) or _threads()
            note_origin(
                folder,
                _config(data, source, prepared, name, kind, validation) | {"asked": asked},
                fingerprint(data, parts.train, parts.validation, (*prepared.rows, *prepared.held)),
                environment(device.kind, threads, hyperparameters.seed),
                tell,
            )
            keep(choose(parts.validation, parts.train), folder)
            keep_held_out(parts.validation, folder)
            with tracking(trackers, folder, name, prepared.resolved.values) as tracked:
                told = together(tell, tracked)
                result = _fit(
                    source,
                    tokenizer,
                    prepared,
                    folder,
                    base_name,
                    device,
                    gpus,
                    threads,
                    told,
                    name,
                    parent,
                    save_steps,
                )
            result.save()
        thin(folder, result.loss_after)
        if registry is not None and settings is not None:
            from train.publication.publish import publish

            result = published_before(folder, registry, settings, str(name), job, tell) or publish(
                folder, str(name), registry=registry, settings=settings, kind=kind,
                job=job, bot=bot, description=description, progress=tell,
            )  # fmt: skip
        shutil.rmtree(folder / "merged-base", ignore_errors=True)
    return result


def _fit(
    base: Base,
    tokenizer: Any,
    prepared: Prepared,
    folder: Path,
    base_name: str | None,
    device: Device,
    processes: int,
    threads: int,
    tell: Progress,
    name: str | None,
    parent: str | None,
    save_steps: int | Literal["auto"],
) -> TrainingResult:
    values = prepared.resolved.values
    measured = prepared.held or prepared.rows[:_MEASURED_ROWS]
    what = "pairs" if values.method == "dpo" else "conversations"
    tell(Stage(f"Training on {prepared.examples:,} {what}: {_in_words(values)}"))
    with quiet(folder / LOG, threads):
        from train.trainers.fit import Place, fit  # here, because bitsandbytes and others warn when they are imported
        from train.trainers.launch import fit_on_several

        trained = folder / (WEIGHTS if values.tune == "full" else ADAPTER)
        place = Place(folder / "trainer", trained, base_name or base.name, device.kind, device.flash, processes)
        fitted = within_memory(
            lambda keeping: (
                fit_on_several(
                    threads,
                    tell,
                    base=base,
                    rows=prepared.rows,
                    measured=measured,
                    settings=values,
                    place=place,
                    keeping=keeping,
                )
                if processes > 1
                else fit(base, tokenizer, prepared.rows, measured, values, place, tell, keeping)
            ),
            pick_up(folder, save_steps, tell),
            tell,
        )
    shutil.rmtree(place.work, ignore_errors=True)
    return TrainingResult(
        run_folder=folder,
        adapter=place.adapter,
        base=base.name,
        base_location=base.location,
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
    """The run's folder, held against other processes.

    After an error it stays once training has begun, because its log says what happened.
    """
    if out is None and settings is None:
        raise Invalid("Training needs settings or an `out` folder, to know where to write.", param="out")
    folder = (out if out is not None else settings.runs_dir / new_ulid()).absolute()  # type: ignore[union-attr] -- one of the two is there: checked above
    if (folder / CONFIG).exists() and not resume:
        raise Invalid(f"{folder} holds a run already: choose another folder, or resume it.", param="out")
    ours = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone(folder):
            yield folder
    except BaseException as error:
        if ours and not (folder / CONFIG).exists():
            shutil.rmtree(folder, ignore_errors=True)
        else:
            with suppress(OSError):
                _log(folder)(Stage(f"Ended: {error or type(error).__name__}"))
        if isinstance(error, KeyboardInterrupt) and interrupted(folder):
            progress(Stage(f"Interrupted: `parley train --resume {folder.name}` goes on from the last checkpoint"))
        if disk_is_full(error):
            raise no_space(folder) from error
        raise


def _merged_first(base: Base, registry: Registry | None, folder: Path, tell: Progress) -> Base:
    """Plain weights of a base that is itself an adapter; they live in the run's folder until it has ended."""
    from train.publication.merge import merge

    below = find_base(str(base.spec and base.spec.base), registry)
    tell(Stage(f"{base.name} is an adapter: merging it into {below.name} first"))
    shutil.rmtree(folder / "merged-base", ignore_errors=True)  # of a life that was killed; it may be half of one
    merge(below, Path(base.location), folder / "merged-base")
    return Base(below.name, str(folder / "merged-base"), base.spec, below.trust_remote_code)


def _threads() -> int:
    """Half of the cores that this process may use, 2 at least: threads that wait for busy cores slow all the others."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, max(2, cores // 2))


def _log(folder: Path) -> Progress:
    def say(line: str) -> None:
        with (folder / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{utcnow():%Y-%m-%d %H:%M:%S} {line}\n")

    return PlainLines(say)


def _config(
    data: Data, base: Base, prepared: Prepared, name: str | None, kind: str, validation: float | Data
) -> dict[str, Any]:
    return {
        "name": name,
        "method": prepared.resolved.values.method,
        "kind": kind,
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


def _in_words(values: Chosen) -> str:
    adapter = "every weight" if values.tune == "full" else f"{_variant(values)} of rank {values.rank}"
    return (
        f"{adapter}, learning rate {values.learning_rate:g}, {values.epochs:g} epochs, batches of {values.batch_size}"
    )


def _variant(values: Chosen) -> str:
    """LoRA's name as people write it: QLoRA, rsLoRA, DoRA, and what goes together."""
    marks = {"QLoRA": values.tune == "qlora", "rsLoRA": values.rslora, "DoRA": values.dora}
    return " + ".join(name for name, on in marks.items() if on) or "LoRA"
