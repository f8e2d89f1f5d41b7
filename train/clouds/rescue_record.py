"""The record of a rescue: the steps done so far. A recorded step is not repeated.

<runs>/rescue-<digest>/rescue.json     the record; the digest is of the names of the fine-tune and the new model
                       learnt.jsonl    the training data of the local model
                       held-out.jsonl  the held-out data, from which the blind comparison takes its prompts
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.database import utcnow
from models.settings.settings import Settings
from train.run.folder import read_json, write_json

RECORD = "rescue.json"


@dataclass(frozen=True)
class Rescue:
    """The record. File ids are those of `models.files.stored_files`; `run` is the folder name of the training run.

    `asked` is the number of prompts of the comparison; None before they are stored. `hyperparameters` and `threads` are
    those that the training was started with, and continues with.
    """

    folder: Path
    model: str
    provider: str
    started: str
    job: str | None = None
    shutdown_date: str | None = None
    training_file: str | None = None
    validation_file: str | None = None
    source: str = ""
    base: str | None = None
    name: str | None = None
    old: str | None = None
    run: str | None = None
    hyperparameters: dict[str, Any] | None = None
    threads: int | None = None
    new: str | None = None
    loss_before: float | None = None
    loss_after: float | None = None
    asked: int | None = None

    @property
    def learnt_path(self) -> Path:
        """The training data of the local model."""
        return self.folder / "learnt.jsonl"

    @property
    def held_out_path(self) -> Path:
        """The held-out data."""
        return self.folder / "held-out.jsonl"

    def saved(self, **changes: Any) -> "Rescue":
        """The changed record; it is on disk when this returns."""
        changed = replace(self, **changes)
        changed.folder.mkdir(parents=True, exist_ok=True)
        write_json(changed.folder / RECORD, changed.to_json())
        return changed

    def to_json(self) -> dict[str, Any]:
        """The record as in rescue.json."""
        return asdict(self) | {"folder": str(self.folder)}


def open_rescue(settings: Settings, model: str, name: str, provider: str) -> Rescue:
    """The stored record of the rescue of a fine-tune as `name`, or a new one that is not on disk yet."""
    folder = settings.runs_dir / f"rescue-{hashlib.sha256(f'{model} {name}'.encode()).hexdigest()[:16]}"
    if (folder / RECORD).is_file():
        return Rescue(**read_json(folder / RECORD) | {"folder": folder})
    return Rescue(folder, model, provider, utcnow().isoformat(timespec="seconds"))
