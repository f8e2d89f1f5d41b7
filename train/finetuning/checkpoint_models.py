"""A checkpoint at the end of an epoch as a model of its own, and the last three of a job as rows.

It is registered as a candidate: served under its name and not listed. Only an adapter that its base's engine can hold
as it is becomes one; merging every epoch would start an engine for each.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.atomic import publish_folder
from models.registry import Registry, parse_spec
from models.settings import Settings
from train.finetuning import names
from train.run.progress import Checkpoint
from train.tables import FineTuningCheckpointRow

KEPT = 3  # as OpenAI keeps the last three epochs


class EpochModels:
    """Makes checkpoints models. Called with one, it returns the name of its model; None where it can be none.

    `model` is what the finished model will be called, `base` what it is trained from.
    """

    def __init__(self, model: str, base: str, job: str, registry: Registry, settings: Settings) -> None:
        self._model, self._base, self._job = model, base, job
        self._registry, self._settings = registry, settings

    def kept(self, run_folder: Path) -> Iterator[Checkpoint]:
        """Those that an interrupted run has: the kill may have come between a checkpoint and the word of it."""
        from train.run.checkpoints import Damaged, listed, verify

        for saved in listed(run_folder):
            with suppress(Damaged):
                verify(saved.folder)
                yield Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss)

    def __call__(self, checkpoint: Checkpoint) -> str | None:
        from train.publication.publish import must_be_merged
        from train.run.checkpoints import read
        from train.run.folder import ADAPTER
        from train.trainers.bases import adapter_facts

        adapter = checkpoint.folder / ADAPTER
        below = self._registry.resolve(self._base)
        if not read(checkpoint.folder).ends_epoch or below.kind == "adapter" or not adapter.is_dir():
            return None
        facts = adapter_facts(adapter)
        if must_be_merged(facts, below.engine.max_lora_rank):
            return None
        name = names.checkpoint_name(self._model, checkpoint.step)
        if name in {spec.id for spec in self._registry.list(include_candidates=True, include_retired=True)}:
            return name  # a run that was interrupted has come here again
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
            bot=below.bot,
            toy=below.toy,
            description=f"Checkpoint of {self._model} at step {checkpoint.step}",
        )
        self._registry.register(spec)
        return name


def keep_row(session: Session, job_id: str, step: int, model: str, metrics: Mapping[str, Any]) -> list[str] | None:
    """Adds a checkpoint's row; returns the models of those that are now too old, whose rows are gone.

    None where it is known already, or too old itself: a run that goes on tells of what it has kept.
    """
    table = FineTuningCheckpointRow
    steps = list(session.scalars(select(table.step).where(table.job == job_id).order_by(table.step.desc())))
    if step in steps or (len(steps) >= KEPT and step < steps[KEPT - 1]):
        return None
    session.add(table(id=names.checkpoint_id(), job=job_id, step=step, model=model, metrics=dict(metrics)))
    session.flush()
    old = list(session.scalars(select(table).where(table.job == job_id).order_by(table.step.desc()).offset(KEPT)))
    for row in old:
        session.delete(row)
    return [row.model for row in old]
