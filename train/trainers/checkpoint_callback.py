"""Keeps a trainer's checkpoints and puts one back: all that the next step depends on, so that it comes out the same.

It hangs on transformers' Trainer (TRL's are such): when to save is decided here as a callback, the Trainer's own way
of writing is replaced by `checkpoints.write`, and its own way of going on (which epoch, which batch, when chance is
put back) is used as it is. A callback that has `state_dict` and `load_state_dict` is remembered with the rest.

A sampler must give the same order for the same epoch, by `set_epoch`: an order that depends on the epochs before it
would be another one after a resume.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from train.run.checkpoints import STATE, Saved, folder_of, prune, write
from train.run.failures import OutOfMemory, TrainingDiverged, memory_is_full
from train.run.progress import Checkpoint, Event, Progress, Stage, Validation
from train.run.result import METRICS

SaveModel = Callable[[Any, Path], None]
_TRAINABLE, _TRAINER_STATE, _MEMORY = "trainable.safetensors", "trainer_state.json", "memory.pt"
_AUTO_S = 180.0  # with save_steps "auto" no more than about this much work is lost, …
_AUTO_SHARE = 20  # … unless writing is slow: it may take one part in so many of the time
_HEARD_S = 30.0  # where several processes train, metrics.jsonl is written by the one that listens to them


@dataclass(frozen=True)
class Keeping:
    """How a run keeps itself: its folder, steps between checkpoints, and what it goes on from.

    `every` is "auto" or a number of steps; each epoch's end has a checkpoint in any case. `start` is the checkpoint to
    go on from. `rows_at_most` bounds the micro-batch, where memory has shown that it must.
    """

    run_folder: Path
    every: int | Literal["auto"] = "auto"
    start: Saved | None = None
    rows_at_most: int | None = None


class Keeper(TrainerCallback):
    """One run's checkpoints.

    `hear` must be told of steps and validations: a checkpoint's loss is the one that was measured at its step, and it
    counts only once all that was told before it stands in metrics.jsonl.
    """

    def __init__(self, keeping: Keeping, save_model: SaveModel, progress: Progress) -> None:
        """`save_model` takes the model and a checkpoint's folder, and writes `adapter/` or `weights/` into it."""
        self._keeping, self._save_model, self._progress = keeping, save_model, progress
        self._trainer: Any = None
        self._good = keeping.start
        self._validated: tuple[int, float] | None = None
        self._ends_epoch = False
        self._once: dict[str, Any] = {}
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._metrics = _Metrics(keeping.run_folder / METRICS)

    @property
    def last_good(self) -> Path | None:
        """The newest checkpoint's folder; every weight in it is a finite number."""
        return self._good.folder if self._good else None

    def hear(self, event: Event) -> None:
        """Listens to the run."""
        self._metrics.hear(event)
        if isinstance(event, Validation):
            self._validated = (event.step, event.loss)

    def hang_on(self, trainer: Any) -> None:
        """Saves this trainer from now on; puts the run's checkpoint into it, if there is one."""
        self._trainer = trainer
        trainer._save_checkpoint = self._save
        trainer._load_from_checkpoint = _already_loaded
        trainer.add_callback(self)
        if self._keeping.start:
            self._restore(self._keeping.start.state)

    def once(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Something that a run does once, such as measuring before it learns: made, or as it was made then."""
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def train(self) -> None:
        """Trains, from the checkpoint on where there is one.

        Raises:
            OutOfMemory: a step did not fit. NoSpace: a checkpoint did not. TrainingDiverged.
        """
        trainer, start = self._trainer, self._keeping.start
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

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= state.max_steps or float(state.epoch).is_integer():
            return  # the epoch's end, which comes at once, has a checkpoint of its own
        if self._due(state.global_step):
            control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._good and self._good.step == state.global_step:
            return  # a run that stops early within an epoch: its last step has one
        self._ends_epoch = True
        control.should_save = True

    def _due(self, step: int) -> bool:
        if self._keeping.every == "auto":
            return time.monotonic() - self._saved_at >= max(_AUTO_S, _AUTO_SHARE * self._cost)
        return step % self._keeping.every == 0

    def _save(self, model: Any, trial: Any = None) -> None:
        trainer, ends_epoch, self._ends_epoch = self._trainer, self._ends_epoch, False
        state = trainer.state
        if not trainer.is_world_process_zero():
            return
        began = time.monotonic()
        if not all(bool(torch.isfinite(tensor).all()) for tensor in _learning(trainer.model).values()):
            rate = trainer.args.learning_rate
            raise TrainingDiverged("A weight is no finite number", state.global_step, rate, self.last_good)
        loss = self._validated[1] if self._validated and self._validated[0] == state.global_step else None
        saved = Saved(
            folder=folder_of(self._keeping.run_folder, state.global_step),
            step=state.global_step,
            epoch=state.epoch,
            loss=loss,
            ends_epoch=ends_epoch or trainer.control.should_training_stop,
            last=trainer.control.should_training_stop,
            rows_at_once=trainer.args.per_device_train_batch_size,
            metrics_bytes=self._metrics.on_disk(),
        )
        self._good = write(saved, self._fill)
        prune(self._keeping.run_folder)
        self._saved_at = time.monotonic()
        self._cost = self._saved_at - began
        told = Checkpoint(saved.step, saved.epoch, saved.folder, saved.loss)
        self._progress(told)
        self._metrics.hear(told)

    def _fill(self, folder: Path) -> None:
        trainer, state = self._trainer, folder / STATE
        state.mkdir()
        tensors = {name: one.detach().cpu().contiguous() for name, one in _learning(trainer.model).items()}
        save_file(tensors, state / _TRAINABLE)
        trainer._save_optimizer_and_scheduler(str(state))
        trainer._save_scaler(str(state))
        trainer._save_rng_state(str(state))
        # Its history would be written again with every checkpoint; metrics.jsonl has it.
        replace(trainer.state, log_history=[]).save_to_json(str(state / _TRAINER_STATE))
        callbacks = {type(one).__name__: one.state_dict() for one in self._remembering()}
        tokens = getattr(trainer, "_total_train_tokens", 0)
        torch.save({"callbacks": callbacks, "tokens": tokens, "once": self._once}, state / _MEMORY)
        self._save_model(trainer.model, folder)

    def _restore(self, state: Path) -> None:
        trainer = self._trainer
        parameters = _learning(trainer.model)
        tensors = load_file(state / _TRAINABLE)
        with torch.no_grad():
            for name, tensor in tensors.items():
                parameters[name].copy_(tensor)
        memory = torch.load(state / _MEMORY, weights_only=True)
        self._once = memory["once"]
        if hasattr(trainer, "_total_train_tokens"):
            trainer._total_train_tokens = memory["tokens"]
        for callback in self._remembering():
            callback.load_state_dict(memory["callbacks"][type(callback).__name__])

    def _remembering(self) -> list[Any]:
        return [one for one in self._trainer.callback_handler.callbacks if hasattr(one, "load_state_dict")]


def _learning(model: Any) -> dict[str, Any]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _already_loaded(folder: str, model: Any = None) -> None:
    """In the place of Trainer._load_from_checkpoint: the weights have been put back, unrounded."""


class _Metrics:
    """metrics.jsonl as this process sees it grow: one line for each thing that was told."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = self._written()

    def hear(self, event: Event) -> None:
        self._lines += not isinstance(event, Stage)

    def on_disk(self) -> int:
        """Its length in bytes, once all that was told is in it and on the disk; 0 where a run keeps no such file."""
        deadline = time.monotonic() + _HEARD_S
        while self._path.exists() and self._written() < self._lines and time.monotonic() < deadline:
            time.sleep(0.01)
        if not self._path.exists():
            return 0
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
            return file.seek(0, os.SEEK_END)

    def _written(self) -> int:
        return self._path.read_bytes().count(b"\n") if self._path.exists() else 0
