"""Where an interrupted run continues: its newest good checkpoint, and metrics.jsonl cut to that point. No torch."""

import os
from pathlib import Path

from train.request import SaveSteps
from train.run.checkpoints import CheckpointPlan, newest
from train.run.folder import METRICS
from train.run.progress import Checkpoint, Progress, Stage


def plan_checkpoints(run_folder: Path, every: SaveSteps, emit: Progress) -> CheckpointPlan:
    """The newest good checkpoint as the start; later lines of metrics.jsonl are cut off.

    `emit` must lead to metrics.jsonl, as the run's own callback does.
    """
    found = newest(run_folder)
    metrics, saved = run_folder / METRICS, found.saved
    for reason in found.damaged:
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
