"""A checkpoint at the end of an epoch as a model of its own, and the last three of a job as rows.

It is registered as a candidate: served under its name and not listed. Only an adapter that its base's engine can hold
as it is becomes one; merging every epoch would start an engine for each.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from models.errors import Conflict
from models.folders import publish_folder
from models.registry import Registry, parse_spec
from models.settings import Settings
from train.finetuning import names
from train.tables import FineTuningCheckpointRow

KEPT = 3  # as OpenAI keeps the last three epochs


def register_checkpoint(
    folder: Path, model: str, *, base: str, job: str, registry: Registry, settings: Settings
) -> str | None:
    """Publishes a checkpoint's adapter and returns its name; None where it can be no model of its own.

    Args:
        folder: the checkpoint's, whole. model: what the finished model will be called. base: what it is trained from.
    """
    from train.bases import adapter_facts
    from train.checkpoints import read
    from train.publishing import must_be_merged
    from train.runs import ADAPTER

    saved = read(folder)
    below = registry.resolve(base)
    if not saved.ends_epoch or below.kind == "adapter" or not (folder / ADAPTER).is_dir():
        return None
    facts = adapter_facts(folder / ADAPTER)
    if must_be_merged(facts, below.engine.max_lora_rank):
        return None
    name = names.checkpoint_name(model, saved.step)
    if name in {spec.id for spec in registry.list(include_candidates=True, include_retired=True)}:
        return name  # a run that was interrupted has come here again
    with publish_folder(settings.models_dir) as pending:
        shutil.copytree(folder / ADAPTER, pending.path, dirs_exist_ok=True)
    spec = parse_spec(
        id=name,
        kind="adapter",
        path=str(pending.final),
        base=below.id,
        parent=below.id,
        job=job,
        state="candidate",
        lora_rank=facts["r"],
        bot=below.bot,
        toy=below.toy,
        description=f"Checkpoint of {model} at step {saved.step}",
    )
    try:
        registry.register(spec)
    except Conflict:
        shutil.rmtree(pending.final, ignore_errors=True)
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
