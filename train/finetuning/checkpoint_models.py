"""Checkpoints at epoch ends as separate models, and the last three of a job as rows.

A checkpoint is registered as a candidate: served under its name but not listed. Only an adapter that its base's engine
can load unmerged becomes a model, because each merge would need its own engine.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.database import new_ulid
from models.files.atomic import publish_folder
from models.registry.registry import Registry, parse_spec
from models.settings.settings import Settings
from train.request import TrainingRequest
from train.run.progress import Checkpoint
from train.tables import FineTuningCheckpointRow

KEPT = 3  # as OpenAI keeps the last three epochs


class CheckpointPublisher:
    """Registers checkpoints as models. Called with a checkpoint, it returns the model's name, or None.

    A run with a chat template other than its base's has no such models, because the base's engine has only one.
    """

    def __init__(self, request: TrainingRequest, run_folder: Path, registry: Registry, settings: Settings) -> None:
        self._model, self._base, self._job = str(request.name), str(request.base), str(request.job)
        self._template, self._run_folder = request.chat_template, run_folder
        self._registry, self._settings = registry, settings

    def existing(self, run_folder: Path) -> Iterator[Checkpoint]:
        """The checkpoints of an interrupted run: a kill may have come between a checkpoint and its event."""
        from train.run.checkpoints import Damaged, listed, verify

        for saved in listed(run_folder):
            with suppress(Damaged):
                verify(saved.folder)
                yield Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss)

    def __call__(self, checkpoint: Checkpoint) -> str | None:
        from models.compatibility.lora_support import must_be_merged
        from train.run.checkpoints import read
        from train.run.folder import ADAPTER, CONFIG, read_json
        from train.trainers.bases import Base, find_config, read_adapter_config

        adapter = checkpoint.folder / ADAPTER
        below = self._registry.resolve(self._base)
        if not read(checkpoint.folder).ends_epoch or below.kind == "adapter" or not adapter.is_dir():
            return None
        if self._template is not None and self._template != below.engine.chat_template:
            return None
        facts = read_adapter_config(adapter)
        config = find_config(Base(below.id, str(below.path), below))
        if must_be_merged(facts, below.engine.max_lora_rank, config):
            return None
        name = checkpoint_name(self._model, checkpoint.step)
        if name in {spec.id for spec in self._registry.list(include_candidates=True, include_retired=True)}:
            return name  # an interrupted run has reached this checkpoint again
        with publish_folder(self._settings.models_dir) as pending:
            shutil.copytree(adapter, pending.path, dirs_exist_ok=True)
        spec = parse_spec(
            id=name,
            kind="adapter",
            path=str(pending.final),
            base=below.id,
            parent=below.id,
            job=self._job,
            state="candidate",
            lora_rank=facts["r"],
            toy=below.toy,
            fold_system=read_json(self._run_folder / CONFIG).get("fold_system") or below.fold_system,
            description=f"Checkpoint of {self._model} at step {checkpoint.step}",
        )
        self._registry.register(spec)
        return name


def checkpoint_name(model: str, step: int) -> str:
    """The name of a checkpoint of a job that trains `model`."""
    return f"{model}:ckpt-step-{step}"


def add_checkpoint_row(
    session: Session, job_id: str, step: int, model: str, metrics: Mapping[str, Any]
) -> list[str] | None:
    """Adds a checkpoint's row; returns the models of the rows that it deletes because they are too old.

    None if the row exists or the checkpoint is too old itself, because a resumed run reports old checkpoints again.
    """
    table = FineTuningCheckpointRow
    steps = list(session.scalars(select(table.step).where(table.job == job_id).order_by(table.step.desc())))
    if step in steps or (len(steps) >= KEPT and step < steps[KEPT - 1]):
        return None
    session.add(table(id=f"ftckpt_{new_ulid()}", job=job_id, step=step, model=model, metrics=dict(metrics)))
    session.flush()
    old = list(session.scalars(select(table).where(table.job == job_id).order_by(table.step.desc()).offset(KEPT)))
    for row in old:
        session.delete(row)
    return [row.model for row in old]
