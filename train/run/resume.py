"""A run that was interrupted goes on: finding it, seeing that it is the same, and where it goes on from.

    parley train --resume 01JQ…          from train import resume; resume(run, settings=settings, registry=registry)

A run's folder says all: config.json and no result.json is a run that did not end. What is put back into a trainer is
`keeping`'s. Light to import: no torch.
"""

import fcntl
import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from models.errors import Busy, Invalid, NoSpace, NotFound
from models.registry import Registry
from models.settings import Settings
from train.run.checkpoints import Newest, newest
from train.run.failures import OutOfMemory, memory_is_full
from train.run.origins import changes, require_same
from train.run.progress import Checkpoint, Progress, Stage, silent
from train.run.result import (
    CONFIG,
    DATA,
    ENVIRONMENT,
    METRICS,
    RESULT,
    TrainingResult,
    load_result,
    read_json,
    write_json,
)

if TYPE_CHECKING:
    from train.trainers.checkpoint_callback import Keeping

Fitted = TypeVar("Fitted")
Every = int | Literal["auto"]
_LOCK = ".lock"


def resume(
    run: str | Path,
    *,
    settings: Settings,
    registry: Registry | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Goes on with a run as it was asked for, from its newest good checkpoint; a finished run gives its result.

    Args:
        run: the run's id, or its folder.

    Raises:
        NotFound: there is no such run. Invalid: its data was in memory, or is not what it was. What `train` raises.
    """
    from train.data.readers import Columns
    from train.hyperparameters import Hyperparameters
    from train.training import train

    folder = find_run(run, settings)
    config = read_json(folder / CONFIG)
    asked = dict(config.get("asked") or {})
    if not asked.get("data"):
        raise Invalid(
            f"The run {folder.name} learnt from data in memory: call train() with the same data, out= its folder and "
            "resume=True.",
            param="run",
        )
    if bot := asked.get("bot"):
        from models.spec import BotProfile

        asked["bot"] = BotProfile.model_validate(bot)
    asked["hyperparameters"] = Hyperparameters.from_dict(asked["hyperparameters"])
    asked["columns"] = Columns(**asked["columns"]) if asked.get("columns") else None
    return train(**asked, settings=settings, registry=registry, out=folder, progress=progress, resume=True)


def asked_for(**arguments: Any) -> dict[str, Any]:
    """What `train` was asked, as config.json has it, so that `resume` can ask the same. Data in memory is None."""

    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return str(value.absolute())
        if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        return value.model_dump(mode="json") if hasattr(value, "model_dump") else value

    data, validation = _place(arguments["data"]), arguments["validation"]
    if not isinstance(validation, int | float):
        validation = _place(validation)
        data = data if validation else None
    return {name: plain(value) for name, value in (arguments | {"data": data, "validation": validation}).items()}


def find_run(run: str | Path, settings: Settings) -> Path:
    """A run's folder, by its id or by its path.

    Raises:
        NotFound: there is none; it names those that did not end.
    """
    for folder in (settings.runs_dir / str(run), Path(run).expanduser()):
        if (folder / CONFIG).is_file():
            return folder.absolute()
    waiting = [folder.name for folder in sorted(settings.runs_dir.glob("*")) if interrupted(folder)]
    known = f"These did not end: {', '.join(waiting[-5:])}." if waiting else "No run waits to be resumed."
    raise NotFound(f"There is no run {str(run)!r}. {known}")


def interrupted(run_folder: Path) -> bool:
    """Whether a run began and did not end: then `train(…, out=run_folder, resume=True)` goes on with it."""
    return (run_folder / CONFIG).is_file() and not (run_folder / RESULT).is_file()


def finished(run_folder: Path) -> TrainingResult | None:
    """The result of a run that has ended; None of one that has not, or has not begun."""
    return load_result(run_folder) if (run_folder / RESULT).is_file() else None


def note_origin(
    run_folder: Path,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    environment: Mapping[str, Any],
    tell: Progress,
) -> None:
    """Writes what a run is made of; of one that goes on, sees that it is still the same.

    config.json comes last: where it stands, the run has begun.

    Raises:
        Invalid: another config or other data, with what differs.
    """
    if not (run_folder / CONFIG).is_file():
        write_json(run_folder / DATA, dict(data))
        write_json(run_folder / ENVIRONMENT, dict(environment))
        write_json(run_folder / CONFIG, dict(config))
        return
    require_same(read_json(run_folder / DATA), data, "data")
    require_same(read_json(run_folder / CONFIG), config, "configuration")
    if changed := changes(read_json(run_folder / ENVIRONMENT), environment):
        tell(Stage(f"Going on elsewhere, where the last digits may differ: {'; '.join(changed)}"))


def pick_up(run_folder: Path, every: Every, tell: Progress, rows_at_most: int | None = None) -> "Keeping":
    """Where a run goes on: its newest good checkpoint, with metrics.jsonl cut to what was measured until then.

    `tell` must lead to metrics.jsonl, as a run's own does.
    """
    from train.trainers.checkpoint_callback import Keeping

    found = newest(run_folder)
    _tell_found(found, run_folder, tell)
    saved = found.saved
    metrics = run_folder / METRICS
    if metrics.exists():
        os.truncate(metrics, min(metrics.stat().st_size, saved.metrics_bytes if saved else 0))
    if saved:
        # Told again: its line was cut off, and who listens may have died before it was heard.
        tell(Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss))
    limits = [rows for rows in (rows_at_most, saved.rows_at_once if saved else None) if rows]
    return Keeping(run_folder, every, saved, min(limits, default=None))


def within_memory(attempt: "Callable[[Keeping], Fitted]", keeping: "Keeping", tell: Progress) -> Fitted:
    """Trains; where a step does not fit into memory, halves the micro-batch and goes on from the last checkpoint.

    A step learns from as many rows as before: they are worked on in more parts.

    Raises:
        OutOfMemory: one row alone does not fit.
    """
    while True:
        try:
            return attempt(keeping)
        except OutOfMemory as error:
            rows = error.rows_at_once
            if rows <= 1:
                raise
        except Exception as error:
            if memory_is_full(error):
                raise OutOfMemory() from error
            raise
        # Out of the except clause, where the exception no longer holds what did not fit.
        _release()
        less = f"{rows // 2} at a time from now on, and a step still learns from as many as before"
        tell(Stage(f"Out of memory with {rows} rows at a time: {less}"))
        keeping = replace(pick_up(keeping.run_folder, keeping.every, tell), rows_at_most=rows // 2)


@contextmanager
def alone(run_folder: Path) -> Iterator[None]:
    """Holds a run's folder: two processes that both go on with a run would write over one another.

    The system lets go of it when the process dies, however it dies.

    Raises:
        Busy: another process holds it.
    """
    handle = os.open(run_folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy(
                f"The run {run_folder.name} is at work in another process: wait for it, or cancel it."
            ) from error
        yield
    finally:
        os.close(handle)


def threads_before(run_folder: Path) -> int | None:
    """The threads that a run had: with as many, its sums come out the same. None of a run that begins."""
    path = run_folder / ENVIRONMENT
    return int(read_json(path)["threads"]) if path.is_file() else None


def published_by(run_folder: Path, registry: Registry, name: str, job: str | None) -> TrainingResult | None:
    """The result of a run whose model stands in the registry already: it was killed between the two.

    None where the name is free, or somebody else's.
    """
    result = finished(run_folder)
    try:
        spec = registry.resolve(name)
    except (NotFound, Invalid):
        return None
    if result is None or spec.job != (job or run_folder.name) or not spec.path:
        return None
    published = result.published(spec.id, spec.kind, Path(spec.path))
    published.save()
    return published


def published_before(
    run_folder: Path, registry: Registry, settings: Settings, name: str, job: str | None, tell: Progress
) -> TrainingResult | None:
    """As `published_by`; a candidate whose check was cut off by a kill is checked to the end."""
    published = published_by(run_folder, registry, name, job)
    if published is None:
        return None
    spec = registry.resolve(name)
    parity = spec.parity
    if spec.state == "candidate" and parity and not (parity.refused or parity.served or parity.not_served):
        from train.publication.listing import check_model

        check_model(name, registry=registry, settings=settings, progress=tell)
    return published


def no_space(run_folder: Path) -> NoSpace:
    """The one line for a disk that became full while a run began, learnt, or was published."""
    if not (run_folder / CONFIG).is_file():
        return NoSpace(f"No space left for the run in {run_folder}: free some, and try again.")
    return NoSpace(
        f"No space left for the run in {run_folder}: free some, then `parley train --resume {run_folder.name}` goes on "
        "from its last whole checkpoint, or publishes what it has learnt."
    )


def _place(data: Any) -> str | None:
    """Where data is found again from any folder; a hub's id stays as it is, and what is in memory is None."""
    if not isinstance(data, str | Path):
        return None
    return str(Path(data).absolute()) if Path(data).exists() else str(data)


def _tell_found(found: Newest, run_folder: Path, tell: Progress) -> None:
    for reason in found.damaged:
        tell(Stage(f"Warning: a damaged checkpoint is left aside: {reason}"))
    if found.saved:
        tell(Stage(f"Going on from step {found.saved.step}: {found.saved.folder}"))
    elif (run_folder / METRICS).exists():
        tell(Stage("No checkpoint to go on from: starting from the beginning"))


def _release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
