"""Checkpoints on disk: a folder counts only if it has a manifest and every file matches it.

checkpoints/step-120/manifest.json   step, epoch, loss, and each file's size and sha256; written last
                     state/          for resuming: trained weights, optimiser, schedule, random state
                     adapter/        can be published as a model; weights/ instead after full tuning

A checkpoint is written under another name on the same file system, each file is hashed and synced, then comes the
manifest, then the rename. A kill at any moment leaves earlier checkpoints complete. Transformers instead writes in
place and resumes from the highest number (transformers#35782). No torch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.errors import NoSpace, ParleyError
from models.files.atomic import atomic_write, claim_folder, publish_folder, sweep
from train.request import SaveSteps
from train.run.failures import disk_is_full
from train.run.folder import CHECKPOINTS, METRICS
from train.run.progress import Checkpoint, Progress, Stage

MANIFEST, STATE = "manifest.json", "state"
KEPT = 3  # checkpoints to resume from, and epoch ends to publish from
_CHUNK = 1 << 20


class Damaged(ParleyError):
    """A checkpoint that does not count: no manifest, or a file that does not match it."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint, as its manifest describes it.

    Attributes:
        loss: the validation loss at this step, None if none was measured.
        ends_epoch: taken at the end of an epoch or of the run. last: nothing is learnt after it.
        rows_at_once: the micro-batch that fitted into memory.
        metrics_bytes: the length of metrics.jsonl at this step.
        resumable: it still holds the optimiser's state.
        files: maps a path within the folder to (bytes, sha256).
    """

    folder: Path
    step: int
    epoch: float
    loss: float | None = None
    ends_epoch: bool = False
    last: bool = False
    rows_at_once: int = 0
    metrics_bytes: int = 0
    resumable: bool = True
    files: Mapping[str, tuple[int, str]] | None = None

    @property
    def state(self) -> Path:
        """The folder that resuming needs."""
        return self.folder / STATE


@dataclass(frozen=True)
class CheckpointPlan:
    """How a run saves itself: its folder, the steps between checkpoints, and the checkpoint that it starts from.

    `every` is "auto" or a number of steps; each epoch ends with a checkpoint in any case. `start` is the checkpoint to
    resume from. `rows_at_most` limits the micro-batch after memory ran out.
    """

    run_folder: Path
    every: int | Literal["auto"] = "auto"
    start: Saved | None = None
    rows_at_most: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The values that other nodes need."""
        start = asdict(self.start) | {"folder": str(self.start.folder)} if self.start else None
        return {"start": start, "rows_at_most": self.rows_at_most}

    def at_node(self, values: Mapping[str, Any], copies: Path) -> "CheckpointPlan":
        """This node's plan with the start and limit in `values`, node 0's `to_json`. The checkpoint is node 0's own if
        this node shares its folder, otherwise a copy in `copies`.
        """
        start = None
        if values["start"]:
            files = {name: (int(size), str(digest)) for name, (size, digest) in values["start"]["files"].items()}
            folder = Path(values["start"]["folder"])
            folder = folder if (folder / MANIFEST).is_file() else copies / folder.name
            start = Saved(**values["start"] | {"folder": folder, "files": files})
        return replace(self, start=start, rows_at_most=values["rows_at_most"])


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint that counts, or None, and what was wrong with newer ones, in words."""

    saved: Saved | None
    damaged: tuple[str, ...] = ()


def folder_of(run_folder: Path, step: int) -> Path:
    """The folder of a step's checkpoint."""
    return run_folder / CHECKPOINTS / f"step-{step}"


def write(saved: Saved, fill: Callable[[Path], None]) -> Saved:
    """Writes the checkpoint `saved.folder` completely or not at all; an existing one is replaced.

    Args:
        saved: the content of its manifest, without the list of files.
        fill: writes the files into the folder that it receives.

    Raises:
        NoSpace: the disk is full. Earlier checkpoints are unchanged.
    """
    try:
        # An existing one of this step is damaged: a resumed run has reached the step again.
        _remove(saved.folder)
        with publish_folder(saved.folder.parent, saved.folder.name) as pending:
            fill(pending.path)
            complete = replace(
                saved, files={name: _size_and_digest(pending.path / name) for name in _files(pending.path)}
            )
            _write_manifest(complete, pending.path)
        claim_folder(saved.folder)
    except Exception as error:
        if disk_is_full(error):
            raise NoSpace(f"No space left for the checkpoint of step {saved.step} in {saved.folder.parent}") from error
        raise
    return complete


def read(folder: Path) -> Saved:
    """A checkpoint by its manifest; its files are not checked.

    Raises:
        Damaged: there is no readable manifest.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        if values.pop("sha256") != _digest(values):
            raise ValueError
        values["files"] = {name: (int(size), str(digest)) for name, (size, digest) in values["files"].items()}
        return Saved(folder=folder, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder.name} has no readable manifest") from error


def verify(folder: Path) -> Saved:
    """A checkpoint whose files all match its manifest.

    Raises:
        Damaged: a file is missing or does not match; the message names it.
    """
    saved = read(folder)
    for name, (size, digest) in (saved.files or {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise Damaged(f"{folder.name}: {name} is missing or its size differs from the manifest")
        if _size_and_digest(path) != (size, digest):
            raise Damaged(f"{folder.name}: {name} does not match the manifest")
    return saved


def file_matches(path: Path, entry: tuple[int, str]) -> bool:
    """Whether a file has the (bytes, sha256) of a manifest."""
    return path.is_file() and path.stat().st_size == entry[0] and _size_and_digest(path) == tuple(entry)


def newest(run_folder: Path) -> Newest:
    """The newest checkpoint to resume from. Leftovers of killed writers are deleted."""
    sweep(run_folder / CHECKPOINTS)
    damaged: list[str] = []
    for folder in reversed(_folders(run_folder)):
        try:
            saved = verify(folder)
        except Damaged as error:
            damaged.append(str(error))
            continue
        if saved.resumable:
            return Newest(saved, tuple(damaged))
    return Newest(None, tuple(damaged))


def listed(run_folder: Path) -> tuple[Saved, ...]:
    """All checkpoints with a manifest, oldest first; their files are not checked."""
    checkpoints = []
    for folder in _folders(run_folder):
        with suppress(Damaged):
            checkpoints.append(read(folder))
    return tuple(checkpoints)


def prune(run_folder: Path) -> None:
    """Keeps the last three complete; of earlier ones, only what can be published of the last three epoch ends and of
    the best. The optimiser's state is twice as large as the trained weights, so it is deleted.
    """
    saved = listed(run_folder)
    for folder in set(_folders(run_folder)) - {checkpoint.folder for checkpoint in saved}:
        _remove(folder)  # a kill interrupted its removal
    ends = [checkpoint.step for checkpoint in saved if checkpoint.ends_epoch][-KEPT:]
    best = _best(saved)
    for checkpoint in saved[:-KEPT]:
        if checkpoint.step in ends or checkpoint == best:
            _drop_state(checkpoint)
        else:
            _remove(checkpoint.folder)


def thin(run_folder: Path, loss: float | None = None) -> None:
    """Keeps of a finished run only what can be published: the epoch ends and the best, without their states.

    Args:
        loss: the final loss, for a last checkpoint without one.
    """
    saved = listed(run_folder)
    best = _best(saved)
    for checkpoint in saved:
        if checkpoint.ends_epoch or checkpoint == best:
            final = checkpoint.last and checkpoint.loss is None
            _drop_state(replace(checkpoint, loss=loss) if final else checkpoint)
        else:
            _remove(checkpoint.folder)


def _best(saved: tuple[Saved, ...]) -> Saved | None:
    """The one with the lowest validation loss."""
    measured = [checkpoint for checkpoint in saved if checkpoint.loss is not None]
    return min(measured, key=lambda checkpoint: checkpoint.loss or 0.0, default=None)


def _drop_state(saved: Saved) -> None:
    """Deletes the state for resuming and keeps what can be published."""
    if saved.resumable:
        files = {name: entry for name, entry in (saved.files or {}).items() if not name.startswith(f"{STATE}/")}
        # The manifest first: a file that it does not name may exist or not.
        _write_manifest(replace(saved, resumable=False, files=files), saved.folder)
    shutil.rmtree(saved.state, ignore_errors=True)


def _folders(run_folder: Path) -> list[Path]:
    """In the order of steps."""
    folders = [path for path in (run_folder / CHECKPOINTS).glob("step-*") if path.name[5:].isdigit()]
    return sorted(folders, key=lambda path: int(path.name[5:]))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _size_and_digest(path: Path) -> tuple[int, str]:
    """(bytes, sha256) of a file, which is synced when this returns."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        os.fsync(file.fileno())
        return file.tell(), digest.hexdigest()


def _write_manifest(saved: Saved, folder: Path) -> None:
    values: dict[str, Any] = asdict(saved)
    del values["folder"]  # it may be moved with its run
    atomic_write(folder / MANIFEST, (json.dumps(values | {"sha256": _digest(values)}, indent=1) + "\n").encode())


def _digest(values: Mapping[str, Any]) -> str:
    """Of the manifest itself: a flipped bit in its step would resume a run at the wrong step."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _remove(folder: Path) -> None:
    """Deletes the manifest first, so that a kill halfway leaves nothing that looks complete."""
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)


def plan_checkpoints(run_folder: Path, every: SaveSteps, emit: Progress) -> CheckpointPlan:
    """The newest good checkpoint as the start; later lines of metrics.jsonl are cut off.

    `emit` must lead to metrics.jsonl, as the run's own callback does.
    """
    latest = newest(run_folder)
    metrics, saved = run_folder / METRICS, latest.saved
    for reason in latest.damaged:
        emit(Stage(f"Warning: a damaged checkpoint is skipped: {reason}"))
    if saved:
        emit(Stage(f"Resuming from step {saved.step}: {saved.folder}"))
    elif metrics.exists():
        emit(Stage("No checkpoint to resume from: starting from the beginning"))
    if metrics.exists():
        os.truncate(metrics, min(metrics.stat().st_size, saved.metrics_bytes if saved else 0))
    if saved:
        # Emitted again: its line was cut off, and the listener may have died before it received the event.
        emit(Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss))
    return CheckpointPlan(run_folder, every, saved, (saved.rows_at_once or None) if saved else None)
