"""A training's lines as the job's events: metrics step by step, stages as messages, checkpoints as rows.

Steps are written together, once a second at most: a small model makes hundreds of them. A step waits for the line
after it, because a validation at the same step belongs into the same event.
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
from models.registry import Registry
from models.worker import JobContext
from train.finetuning.checkpoint_models import keep_row
from train.finetuning.lifecycle import locked, start, tell, wait
from train.run.folder import CONFIG
from train.tables import FineTuningCheckpointRow, FineTuningEventRow, FineTuningRow
from train.worker.jobs import Line, reported

_EVERY_S = 1.0


class Telling:
    """Listens to one job's training."""

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
            self._last = session.scalar(query) or 0  # a run that goes on comes to steps again that were told

    def __call__(self, line: Line) -> None:
        if "waiting" in line:
            self._started = False
            self.write(lambda session: wait(session, locked(session, self._job_id), line["waiting"]))
            self._context.report(message=line["waiting"])
            return
        if not self._started:
            self._started = True
            self.write(lambda session: start(session, locked(session, self._job_id)))
        if "step" in line:
            self._step(line["step"])
        elif "validation" in line:
            self._validation(line["validation"])
        elif "checkpoint" in line:
            self._checkpoint(line["checkpoint"])
        elif "stage" in line:
            self.write(lambda session: tell(session, self._job_id, line["stage"]))
            self._context.report(message=line["stage"])

    def write(self, also: Callable[[Session], object] | None = None) -> None:
        """Writes what waits, in one transaction with whatever else there is to write."""
        fresh = [data for data in self._pending if data["step"] > self._last]
        with self._database.write() as session:
            row = locked(session, self._job_id)
            for data in fresh:
                tell(session, self._job_id, _message(data), data=data, step=data["step"])
            if self._newest and row.status == "running":
                row.estimated_finish = utcnow() + timedelta(seconds=self._newest["seconds_left"])
                self._note_numbers(row)
            session.flush()
            if also:
                also(session)
        self._last = max([self._last, *(data["step"] for data in fresh)])
        self._pending = []
        self._written = time.monotonic()

    def _step(self, step: Line) -> None:
        if self._pending and time.monotonic() - self._written > _EVERY_S:
            self.write()
            assert self._newest
            self._context.report(*reported(self._newest))
        data = {"step": step["step"], "total_steps": step["steps"], "train_loss": _short(step["loss"])}
        if step.get("accuracy") is not None:
            data[f"train_{self._accuracy}"] = _short(step["accuracy"])
        if step.get("margin") is not None:
            data["train_reward_margin"] = _short(step["margin"])
        self._pending.append(data)
        self._newest = step

    def _validation(self, told: Line) -> None:
        if not self._validated or not told["step"]:
            return  # measured on the training rows themselves, or before the first step
        loss = _short(told["loss"])
        measured = {"valid_loss": loss, "full_valid_loss": loss}
        if told.get("accuracy") is not None:
            accuracy = _short(told["accuracy"])
            measured |= {f"valid_{self._accuracy}": accuracy, f"full_valid_{self._accuracy}": accuracy}
        waiting = next((data for data in self._pending if data["step"] == told["step"]), None)
        if waiting is not None:
            waiting |= measured
            return
        with self._database.write() as session:
            for table, field in ((FineTuningEventRow, "data"), (FineTuningCheckpointRow, "metrics")):
                query = select(table).where(table.job == self._job_id, table.step == told["step"])
                if (row := session.scalar(query)) is not None:
                    setattr(row, field, getattr(row, field) | measured)
                    if isinstance(row, FineTuningEventRow):
                        row.message = _message(row.data or {})

    def _checkpoint(self, told: Line) -> None:
        if not told["model"]:
            return
        step, model = told["step"], told["model"]
        data: dict[str, Any] = next((data for data in self._pending if data["step"] == step), {})
        old: list[str] = []

        def add(session: Session) -> None:
            known = data or _told_before(session, self._job_id, step)
            metrics = {"step": step} | {name: value for name, value in known.items() if name != "total_steps"}
            gone = keep_row(session, self._job_id, step, model, metrics)
            if gone is not None:
                old.extend(gone)
                tell(session, self._job_id, f"Checkpoint created at step {step}", data={"step": step, "model": model})

        self.write(add)
        for name in old:
            self._drop(name)

    def _drop(self, name: str) -> None:
        """A checkpoint that is too old is served no more, and its weights go: a long training makes many."""
        registry = Registry(self._database)
        with suppress(NotFound, Conflict):  # deleted by its owner, or an alias points at it: then it stays
            folder = registry.resolve(name).folder
            registry.retire(name)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)

    def _note_numbers(self, row: FineTuningRow) -> None:
        """Once: what every "auto" has become."""
        if self._chosen:
            return
        with suppress(OSError, ValueError):
            chosen = json.loads((self._run_folder / CONFIG).read_text("utf-8"))["hyperparameters"]
            row.hyperparameters = numbers(row.hyperparameters, chosen)
            self._chosen = True


def numbers(asked: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
    """OpenAI's hyperparameters with what a run chose for each "auto"."""
    epochs = chosen["epochs"]
    known = {
        "n_epochs": int(epochs) if epochs == int(epochs) else epochs,
        "batch_size": chosen["batch_size"],
        "learning_rate_multiplier": chosen.get("learning_rate_multiplier", 1.0),
        "beta": chosen.get("beta"),
    }
    return {name: known[name] if value == "auto" else value for name, value in asked.items()}


def _told_before(session: Session, job_id: str, step: int) -> dict[str, Any]:
    query = select(FineTuningEventRow.data).where(FineTuningEventRow.job == job_id, FineTuningEventRow.step == step)
    return session.scalar(query) or {}


def _message(data: dict[str, Any]) -> str:
    parts = [f"training loss={data['train_loss']:.2f}"]
    if "valid_loss" in data:
        parts.append(f"validation loss={data['valid_loss']:.2f}")
    return f"Step {data['step']}/{data['total_steps']}: {', '.join(parts)}"


def _short(value: float) -> float:
    return float(f"{value:.6g}")
