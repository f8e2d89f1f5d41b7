"""Checkpoints on disk: a folder counts only where its manifest is there and every file is what the manifest says.

checkpoints/step-120/manifest.json   step, epoch, loss, and each file's size and sha256; written last
                     state/          what going on needs: learnt weights, optimiser, schedule, chance (`resuming`)
                     adapter/        what can be published as a model; weights/ in its place after full tuning

A checkpoint is filled under another name on the same file system, each file is hashed and synced, then comes the
manifest, then the rename. So a kill at any moment leaves the checkpoints before it whole, and transformers' own way,
to write in place and to go on from the highest number (transformers#35782), is not used. It knows files, not torch.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.atomic import atomic_write, claim_folder, publish_folder, sweep
from models.errors import NoSpace, ParleyError
from train.run.failures import disk_is_full
from train.run.folder import CHECKPOINTS

MANIFEST, STATE = "manifest.json", "state"
KEPT = 3  # checkpoints to go on from, and ends of epochs to publish from
_CHUNK = 1 << 20


class Damaged(ParleyError):
    """A checkpoint that does not count: without a manifest, or with a file that is not what the manifest says."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint, as its manifest tells it.

    `loss` is the validation loss at this step, None where none was measured. `ends_epoch`: taken at the end of an
    epoch or of the run. `last`: nothing is learnt after it. `rows_at_once` is the micro-batch that fitted into memory.
    `metrics_bytes` is how long metrics.jsonl was. `resumable`: it still holds the optimiser's state. `files` maps a
    path within the folder to (bytes, sha256).
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
        """What going on from it needs."""
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


@dataclass(frozen=True)
class Newest:
    """The newest checkpoint that counts, None where there is none; and what was wrong with newer ones, in words."""

    saved: Saved | None
    damaged: tuple[str, ...] = ()


def folder_of(run_folder: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run_folder / CHECKPOINTS / f"step-{step}"


def write(saved: Saved, fill: Callable[[Path], None]) -> Saved:
    """Makes the checkpoint `saved.folder`, whole or not at all; one that stands there already is replaced.

    Args:
        saved: what its manifest will tell; the files come from what `fill` writes.
        fill: writes the files into the folder that it is given.

    Raises:
        NoSpace: the disk is full. The checkpoints before it are as they were.
    """
    try:
        # One of this very step can only be a damaged one, which a resumed run has now come to again.
        _remove(saved.folder)
        with publish_folder(saved.folder.parent, saved.folder.name) as pending:
            fill(pending.path)
            whole = replace(saved, files={name: _facts(pending.path / name) for name in _files(pending.path)})
            _write_manifest(whole, pending.path)
        claim_folder(saved.folder)
    except Exception as error:
        if disk_is_full(error):
            raise NoSpace(f"No space left for the checkpoint of step {saved.step} in {saved.folder.parent}") from error
        raise
    return whole


def read(folder: Path) -> Saved:
    """A checkpoint by its manifest, its files not looked at.

    Raises:
        Damaged: there is no manifest that can be read.
    """
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        if values.pop("sha256") != _digest(values):
            raise ValueError
        values["files"] = {name: (int(size), str(digest)) for name, (size, digest) in values["files"].items()}
        return Saved(folder=folder, **values)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"{folder.name} has no manifest that can be read") from error


def verify(folder: Path) -> Saved:
    """A checkpoint whose every file is what its manifest says.

    Raises:
        Damaged: which file is not, or is not there.
    """
    saved = read(folder)
    for name, (size, digest) in (saved.files or {}).items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            raise Damaged(f"{folder.name}: {name} is missing or has another size than its manifest says")
        if _facts(path) != (size, digest):
            raise Damaged(f"{folder.name}: {name} is not what its manifest says")
    return saved


def newest(run_folder: Path) -> Newest:
    """The newest checkpoint to go on from. What killed writers left behind is swept away."""
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
    """All checkpoints with a manifest, oldest first; their files are not hashed again."""
    found = []
    for folder in _folders(run_folder):
        try:
            found.append(read(folder))
        except Damaged:
            continue
    return tuple(found)


def prune(run_folder: Path) -> None:
    """Keeps the last three whole; of those before them, what can be published of the last three ends of epochs and of
    the best. The state of the optimiser is twice as large as what learns, so that the rest of it goes.
    """
    saved = listed(run_folder)
    for folder in set(_folders(run_folder)) - {one.folder for one in saved}:
        _remove(folder)  # what a kill left of one that was being removed
    ends = [one.step for one in saved if one.ends_epoch][-KEPT:]
    best = _best(saved)
    for one in saved[:-KEPT]:
        if one.step in ends or one == best:
            _lighten(one)
        else:
            _remove(one.folder)


def thin(run_folder: Path, loss: float | None = None) -> None:
    """Of a run that has ended, keeps what can be published: the epochs' ends and the best, without their states.

    Args:
        loss: what was measured at the end, for a last checkpoint that has no loss of its own yet.
    """
    saved = listed(run_folder)
    best = _best(saved)
    for one in saved:
        if one.ends_epoch or one == best:
            _lighten(replace(one, loss=loss) if one.last and one.loss is None else one)
        else:
            _remove(one.folder)


def _best(saved: tuple[Saved, ...]) -> Saved | None:
    """Of the lowest validation loss."""
    return min((one for one in saved if one.loss is not None), key=lambda one: one.loss or 0.0, default=None)


def _lighten(saved: Saved) -> None:
    """Leaves what can be published: nothing goes on from it any more."""
    if saved.resumable:
        files = {name: facts for name, facts in (saved.files or {}).items() if not name.startswith(f"{STATE}/")}
        # The manifest first: what it does not name may be there or not.
        _write_manifest(replace(saved, resumable=False, files=files), saved.folder)
    shutil.rmtree(saved.state, ignore_errors=True)


def _folders(run_folder: Path) -> list[Path]:
    """By step, oldest first."""
    found = [path for path in (run_folder / CHECKPOINTS).glob("step-*") if path.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _facts(path: Path) -> tuple[int, str]:
    """(bytes, sha256) of a file, which is on the disk when this returns."""
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
    """Of a manifest's own words: a flipped bit in its step would else send a run elsewhere."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _remove(folder: Path) -> None:
    """The manifest goes first, so that a kill halfway leaves nothing that looks whole."""
    if folder.exists():
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
