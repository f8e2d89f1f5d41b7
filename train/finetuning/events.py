"""A training's lines as the job's events: metrics per step, stages as messages, checkpoints as rows.

Steps are written in batches, at most once a second, because a small model makes hundreds of them. A step is written
only after the next line, because a validation of the same step belongs to the same event.
"""

import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.database import utcnow
from models.errors import Conflict, NotFound
from models.jobs.worker import JobContext
from models.registry.registry import Registry
from train.finetuning.checkpoint_models import add_checkpoint_row
from train.finetuning.lifecycle import add_event, lock_job, start, wait
from train.run.folder import CONFIG, METRICS
from train.tables import FineTuningCheckpointRow, FineTuningEventRow, FineTuningRow
from train.worker.jobs import Line, describe_step

_EVERY_S = 1.0


class EventWriter:
    """Writes the events of one job's training."""

    def __init__(self, context: JobContext, job_id: str, run_folder: Path, *, validated: bool, method: str) -> None:
        self._context = context
        self._database = context.database
        self._job_id, self._run_folder = job_id, run_folder
        self._validated = validated
        self._accuracy = "reward_accuracy" if method == "dpo" else "mean_token_accuracy"
        self._pending: list[dict[str, Any]] = []
        self._newest: Line | None = None
        self._written = 0.0
        self._chosen = False
        self._started = False
        with self._database.read() as session:
            query = select(func.max(FineTuningEventRow.step)).where(FineTuningEventRow.job == job_id)
            self._last = session.scalar(query) or 0  # a resumed run repeats steps whose events exist

    def __call__(self, line: Line) -> None:
        if "waiting" in line:
            self._started = False
            self.write(lambda session: wait(session, lock_job(session, self._job_id), line["waiting"]))
            self._context.report(message=line["waiting"])
            return
        if not self._started:
            self._started = True
            self._recover_steps()
            self.write(lambda session: start(session, lock_job(session, self._job_id)))
        if "step" in line:
            self._step(line["step"])
        elif "validation" in line:
            self._validation(line["validation"])
        elif "checkpoint" in line:
            self._checkpoint(line["checkpoint"])
        elif "stage" in line:
            self.write(lambda session: add_event(session, self._job_id, line["stage"]))
            self._context.report(message=line["stage"])

    def write(self, also: Callable[[Session], object] | None = None) -> None:
        """Writes the pending steps in one transaction, with `also` in the same one."""
        fresh = [data for data in self._pending if data["step"] > self._last]
        with self._database.write() as session:
            row = lock_job(session, self._job_id)
            for data in fresh:
                add_event(session, self._job_id, _message(data), data=data, step=data["step"])
            if self._newest and row.status == "running":
                row.estimated_finish = utcnow() + timedelta(seconds=self._newest["seconds_left"])
                self._store_hyperparameters(row)
            session.flush()
            if also:
                also(session)
        self._last = max([self._last, *(data["step"] for data in fresh)])
        self._pending = []
        self._written = time.monotonic()

    def _recover_steps(self) -> None:
        """Takes up the steps that the run has saved, but whose events an earlier worker did not live to write."""
        try:
            lines = (self._run_folder / METRICS).read_text("utf-8").splitlines()
        except OSError:
            return  # a run that begins
        for line in lines:
            with suppress(ValueError):  # the last line may be cut off
                row = json.loads(line)
                if row["step"] <= self._last:
                    continue
                if "loss" in row:
                    self._pending.append(self._step_data(row))
                elif "validation_loss" in row:
                    validation = {"loss": row["validation_loss"], "accuracy": row.get("validation_accuracy")}
                    self._validation({"step": row["step"]} | validation)

    def _step(self, step: Line) -> None:
        if self._pending and time.monotonic() - self._written > _EVERY_S:
            self.write()
            assert self._newest
            self._context.report(*describe_step(self._newest))
        self._pending.append(self._step_data(step))
        self._newest = step

    def _step_data(self, step: Line) -> dict[str, Any]:
        data = {"step": step["step"], "total_steps": step["steps"], "train_loss": _round(step["loss"])}
        if step.get("accuracy") is not None:
            data[f"train_{self._accuracy}"] = _round(step["accuracy"])
        if step.get("margin") is not None:
            data["train_reward_margin"] = _round(step["margin"])
        return data

    def _validation(self, line: Line) -> None:
        if not self._validated or not line["step"]:
            return  # measured on the training rows themselves, or before the first step
        loss = _round(line["loss"])
        measured = {"valid_loss": loss, "full_valid_loss": loss}
        if line.get("accuracy") is not None:
            accuracy = _round(line["accuracy"])
            measured |= {f"valid_{self._accuracy}": accuracy, f"full_valid_{self._accuracy}": accuracy}
        waiting = next((data for data in self._pending if data["step"] == line["step"]), None)
        if waiting is not None:
            waiting |= measured
            return
        with self._database.write() as session:
            for table, field in ((FineTuningEventRow, "data"), (FineTuningCheckpointRow, "metrics")):
                query = select(table).where(table.job == self._job_id, table.step == line["step"])
                if (row := session.scalar(query)) is not None:
                    setattr(row, field, getattr(row, field) | measured)
                    if isinstance(row, FineTuningEventRow):
                        row.message = _message(row.data or {})

    def _checkpoint(self, line: Line) -> None:
        if not line["model"]:
            return
        step, model = line["step"], line["model"]
        data: dict[str, Any] = next((data for data in self._pending if data["step"] == step), {})
        old: list[str] = []

        def add(session: Session) -> None:
            known = data or _stored_metrics(session, self._job_id, step)
            metrics = {"step": step} | {name: value for name, value in known.items() if name != "total_steps"}
            removed = add_checkpoint_row(session, self._job_id, step, model, metrics)
            if removed is not None:
                old.extend(removed)
                add_event(
                    session, self._job_id, f"Checkpoint created at step {step}", data={"step": step, "model": model}
                )

        self.write(add)
        for name in old:
            self._retire(name)

    def _retire(self, name: str) -> None:
        """Retires a checkpoint that is too old and deletes its weights, because a long training makes many."""
        registry = Registry(self._database)
        with suppress(NotFound, Conflict):  # its owner deleted it, or an alias points at it, so it stays
            folder = registry.resolve(name).folder
            registry.retire(name)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _store_hyperparameters(self, row: FineTuningRow) -> None:
        """Stores the value of every "auto", once."""
        if self._chosen:
            return
        with suppress(OSError, ValueError):
            chosen = json.loads((self._run_folder / CONFIG).read_text("utf-8"))["hyperparameters"]
            row.hyperparameters = chosen_hyperparameters(row.hyperparameters, chosen)
            self._chosen = True


def chosen_hyperparameters(requested: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's hyperparameters, with the run's value for each "auto"."""
    epochs = chosen["epochs"]
    known = {
        "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
        "batch_size": chosen["batch_size"],
        "learning_rate_multiplier": chosen.get("learning_rate_multiplier", 1.0),
        "beta": chosen.get("beta"),
    }
    return {name: known[name] if value == "auto" else value for name, value in requested.items()}


def _stored_metrics(session: Session, job_id: str, step: int) -> dict[str, Any]:
    query = select(FineTuningEventRow.data).where(FineTuningEventRow.job == job_id, FineTuningEventRow.step == step)
    return session.scalar(query) or {}


def _message(data: dict[str, Any]) -> str:
    parts = [f"training loss={data['train_loss']:.2f}"]
    if "valid_loss" in data:
        parts.append(f"validation loss={data['valid_loss']:.2f}")
    return f"Step {data['step']}/{data['total_steps']}: {', '.join(parts)}"


def _round(value: float) -> float:
    return float(f"{value:.6g}")
