"""A trainer callback that saves checkpoints and restores one, with everything that the next step depends on.

This callback decides when transformers' Trainer (and so TRL's) saves. `checkpoints.write` replaces the Trainer's own
writing; its own way to resume (epoch, batch, random state) is used as it is. Callbacks with `state_dict` and
`load_state_dict` are saved with the rest, under their `checkpoint_key`.

A sampler must give the same order for the same epoch (`set_epoch`): an order that depends on earlier epochs would
change after a resume.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from train.run.checkpoints import STATE, CheckpointPlan, Saved, folder_of, prune, write
from train.run.failures import OutOfMemory, TrainingDiverged, memory_is_full
from train.run.folder import METRICS
from train.run.progress import Checkpoint, Event, Progress, Stage, Validation

SaveModel = Callable[[Any, Path], None]
_TRAINABLE, _TRAINER_STATE, _MEMORY = "trainable.safetensors", "trainer_state.json", "memory.pt"
_AUTO_S = 180.0  # with save_steps "auto" about this much work can be lost at most, …
_AUTO_SHARE = 20  # … unless saving is slow: it may take 1/20 of the time
_WRITTEN_WITHIN_S = 30.0  # with several processes, their parent writes metrics.jsonl


class CheckpointCallback(TrainerCallback):
    """One run's checkpoints.

    `on_event` must receive the run's events: a checkpoint's loss is the one measured at its step, and a checkpoint is
    written only after metrics.jsonl holds everything before it.
    """

    def __init__(self, plan: CheckpointPlan, save_model: SaveModel, emit: Progress) -> None:
        """`save_model` receives the model and a checkpoint's folder, and writes `adapter/` or `weights/` into it."""
        self._plan, self._save_model, self._emit = plan, save_model, emit
        self._trainer: Any = None
        self._good = plan.start
        self._validated: tuple[int, float] | None = None
        self._ends_epoch = False
        self._once: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._metrics = _Metrics(plan.run_folder / METRICS)

    @property
    def last_good(self) -> Path | None:
        """The newest checkpoint's folder; every weight in it is finite."""
        return self._good.folder if self._good else None

    def on_event(self, event: Event) -> None:
        """Records an event of the run."""
        self._metrics.on_event(event)
        if isinstance(event, Validation):
            self._validated = (event.step, event.loss)

    def attach(self, trainer: Any) -> None:
        """Saves this trainer from now on, and restores the run's checkpoint into it if there is one."""
        self._trainer = trainer
        trainer._save_checkpoint = self._save
        trainer._load_from_checkpoint = _already_loaded
        trainer.add_callback(self)
        if self._plan.start:
            self._restore(self._plan.start.state)

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of something that a run does once, such as the first measurement; restored after a resume."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def train(self) -> None:
        """Trains, from the restored checkpoint if there is one.

        Raises:
            OutOfMemory: a step did not fit. NoSpace: the disk is full. TrainingDiverged.
        """
        trainer, start = self._trainer, self._plan.start
        if start and start.last:
            trainer.state = TrainerState.load_from_json(str(start.state / _TRAINER_STATE))
            return
        try:
            trainer.train(resume_from_checkpoint=str(start.state) if start else None)
        except Exception as error:
            if memory_is_full(error):
                raise OutOfMemory(trainer.args.per_device_train_batch_size) from error
            raise

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._saved_at = time.monotonic()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # On several processes, accelerate does not pass the epoch to the sampler when a resume skips batches: the rest
        # of the epoch would be in the order of the first epoch.
        if self._trainer.sampler:
            self._trainer.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps or float(state.epoch).is_integer():
            return  # the epoch ends with this step, and on_epoch_end saves it
        if self._due(state.global_step):
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._good and self._good.step == state.global_step:
            return  # an early stop within an epoch: its last step is saved already
        self._ends_epoch = True
        control.should_save = True

    def _due(self, step: int) -> bool:
        if self._plan.every == "auto":
            return time.monotonic() - self._saved_at >= max(_AUTO_S, _AUTO_SHARE * self._cost)
        return step % self._plan.every == 0

    def _save(self, model: Any, trial: Any = None) -> None:
        trainer, ends_epoch, self._ends_epoch = self._trainer, self._ends_epoch, False
        state = trainer.state
        if not trainer.is_world_process_zero():
            return
        began = time.monotonic()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in trainable_parameters(trainer.model).values()):
            rate = trainer.args.learning_rate
            raise TrainingDiverged("A weight is not finite", state.global_step, rate, self.last_good)
        loss = self._validated[1] if self._validated and self._validated[0] == state.global_step else None
        saved = Saved(
            folder=folder_of(self._plan.run_folder, state.global_step),
            step=state.global_step,
            epoch=state.epoch,
            loss=loss,
            ends_epoch=ends_epoch or trainer.control.should_training_stop,
            last=trainer.control.should_training_stop,
            rows_at_once=trainer.args.per_device_train_batch_size,
            metrics_bytes=self._metrics.on_disk(),
        )
        self._good = write(saved, self._write_files)
        prune(self._plan.run_folder)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began
        event = Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss)
        self._emit(event)
        self._metrics.on_event(event)

    def _write_files(self, folder: Path) -> None:
        trainer, state = self._trainer, folder / STATE
        state.mkdir()
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in trainable_parameters(trainer.model).items()
        }
        save_file(tensors, state / _TRAINABLE)
        trainer._save_optimizer_and_scheduler(str(state))
        trainer._save_scaler(str(state))
        trainer._save_rng_state(str(state))
        # Its history would be written again with every checkpoint; metrics.jsonl has it.
        replace(trainer.state, log_history=[]).save_to_json(str(state / _TRAINER_STATE))
        callbacks = {callback.checkpoint_key: callback.state_dict() for callback in self._stateful_callbacks()}
        tokens = getattr(trainer, "_total_train_tokens", 0)
        torch.save({"callbacks": callbacks, "tokens": tokens, "once": self._once}, state / _MEMORY)
        self._save_model(trainer.model, folder)

    def _restore(self, state: Path) -> None:
        trainer = self._trainer
        parameters = trainable_parameters(trainer.model)
        tensors = load_file(state / _TRAINABLE)
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)
        memory = torch.load(state / _MEMORY, weights_only=True)
        self._once = memory["once"]
        if hasattr(trainer, "_total_train_tokens"):
            trainer._total_train_tokens = memory["tokens"]
        for callback in self._stateful_callbacks():
            callback.load_state_dict(memory["callbacks"][callback.checkpoint_key])

    def _stateful_callbacks(self) -> list[Any]:
        callbacks = self._trainer.callback_handler.callbacks
        return [callback for callback in callbacks if hasattr(callback, "checkpoint_key")]


def trainable_parameters(model: Any) -> dict[str, Any]:
    """By name, the parameters that training changes."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _already_loaded(folder: str, model: Any = None) -> None:
    """Replaces Trainer._load_from_checkpoint: `attach` has restored the unrounded weights."""


class _Metrics:
    """metrics.jsonl as this process expects it: one line for each event but stages."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = self._written()

    def on_event(self, event: Event) -> None:
        self._lines += not isinstance(event, Stage)

    def on_disk(self) -> int:
        """Its length in bytes once all events are written and synced; 0 if the run has no such file."""
        deadline = time.monotonic() + _WRITTEN_WITHIN_S
        while self._path.exists() and self._written() < self._lines and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def _written(self) -> int:
        return self._path.read_bytes().count(b"\n") if self._path.exists() else 0
