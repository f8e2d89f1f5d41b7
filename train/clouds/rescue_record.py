"""A rescue's record: what was found, kept, trained and registered so far. A step that is in it is not done again.

<runs>/rescue-<digest>/rescue.json     the record; the digest is of the fine-tune's name and the new one's
                       learnt.jsonl    what the local model learns
                       held-out.jsonl  what nobody learns: the blind comparison asks from it
"""

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from models.database import utcnow
from models.settings import Settings
from train.run.folder import read_json, write_json

RECORD = "rescue.json"


@dataclass(frozen=True)
class Rescue:
    """How far a rescue has come. File ids are those of `models.files` here; `run` is the training run's folder's name.

    `asked` is the number of prompts of the comparison; None before it is set up. `hyperparameters` and `threads` are
    what the training began with: it goes on with them.
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
        """What the local model learns."""
        return self.folder / "learnt.jsonl"

    @property
    def held_out_path(self) -> Path:
        """What nobody learns."""
        return self.folder / "held-out.jsonl"

    def saved(self, **changes: Any) -> "Rescue":
        """The changed record, on disk when this returns."""
        changed = replace(self, **changes)
        changed.folder.mkdir(parents=True, exist_ok=True)
        write_json(changed.folder / RECORD, changed.as_json())
        return changed

    def as_json(self) -> dict[str, Any]:
        """As rescue.json has it."""
        return asdict(self) | {"folder": str(self.folder)}


def open_rescue(settings: Settings, model: str, name: str, provider: str) -> Rescue:
    """The record of a fine-tune's rescue as `name`: as it was left, or a fresh one that is not on disk yet."""
    folder = settings.runs_dir / f"rescue-{hashlib.sha256(f'{model} {name}'.encode()).hexdigest()[:16]}"
    if (folder / RECORD).is_file():
        return Rescue(**read_json(folder / RECORD) | {"folder": folder})
    return Rescue(folder, model, provider, utcnow().isoformat(timespec="seconds"))
