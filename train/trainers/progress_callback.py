"""A trainer callback that emits each step, validates, stops early, and stops a run whose loss is not finite.

It knows neither rows nor files.
"""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback

from train.hyperparameters import Chosen
from train.run.failures import TrainingDiverged
from train.run.progress import Progress, Stage, Step, Validation
from train.trainers.checkpoint_callback import CheckpointCallback, trainable_parameters
from train.trainers.fit_job import Measured
from train.trainers.runtime import Memory


class Best:
    """The weights of the best validation so far, in RAM: early stopping restores them."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.loss = math.inf
        self.step: int | None = None
        self.failed = 0
        self._weights: dict[str, torch.Tensor] = {}

    def update(self, loss: float, step: int, model: Any) -> bool:
        """Records a validation; whether patience has run out."""
        if loss < self.loss:
            self.loss, self.step, self.failed = loss, step, 0
            self._weights = {
                name: tensor.detach().to("cpu", copy=True) for name, tensor in trainable_parameters(model).items()
            }
        else:
            self.failed += 1
        return self.failed >= self.patience

    def restore_if_better(self, model: Any, loss: float) -> None:
        """Restores the best weights, unless the model's current `loss` is at least as good."""
        if loss <= self.loss:
            self.loss, self.step = loss, None
            return
        parameters = trainable_parameters(model)
        for name, weight in self._weights.items():
            parameters[name].data.copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint stores."""
        return {"loss": self.loss, "step": self.step, "failed": self.failed, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of a checkpoint."""
        self.loss, self.step, self.failed, self._weights = (
            state["loss"], state["step"], state["failed"], state["weights"]
        )  # fmt: skip


class ProgressCallback(TrainerCallback):
    """Emits steps and validations. `measure` gives the model's loss on the held-out rows."""

    checkpoint_key = "Watcher"  # stored in checkpoints, so it never changes

    def __init__(
        self,
        rows: int,
        values: Chosen,
        measure: Callable[[], Measured],
        memory: Memory,
        emit: Progress,
        checkpoints: CheckpointCallback,
    ) -> None:
        self._steps_per_epoch = math.ceil(rows / values.batch_size)
        self._every = values.validate_every
        self._measure, self._memory, self._emit = measure, memory, emit
        self._checkpoints = checkpoints
        self._began = 0.0
        self._paused = 0.0
        self.seconds = 0.0
        self.tokens = 0
        self.best = Best(values.early_stopping) if values.early_stopping else None

    def state_dict(self) -> dict[str, Any]:
        """The state that a checkpoint stores."""
        best = self.best.state_dict() if self.best else None
        return {"seconds": self.seconds, "tokens": self.tokens, "best": best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of a checkpoint: the time before the interruption counts too."""
        self.seconds, self.tokens = state["seconds"], state["tokens"]
        if self.best:
            self.best.load_state_dict(state["best"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.monotonic() - self.seconds

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, model: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            what = f"The loss is {logs['loss']}"
            raise TrainingDiverged(what, state.global_step, args.learning_rate, self._checkpoints.last_good)
        self.tokens = int(logs.get("num_tokens", 0))
        self.seconds = seconds = time.monotonic() - self._began - self._paused
        margin = logs.get("rewards/margins")
        self._emit(
            Step(
                step=state.global_step,
                steps=state.max_steps,
                epoch=state.global_step / self._steps_per_epoch,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate", 0.0),
                grad_norm=logs.get("grad_norm"),
                tokens=self.tokens,
                tokens_per_s=self.tokens / seconds if seconds else 0.0,
                seconds=seconds,
                seconds_left=seconds / state.global_step * (state.max_steps - state.global_step),
                accuracy=logs.get("mean_token_accuracy" if margin is None else "rewards/accuracies"),
                margin=margin,
                memory_bytes=self._memory.now(),
            )
        )
        # `fit` measures the saved weights after the last step.
        if state.global_step % self._every == 0 and state.global_step < state.max_steps:
            self._validate(state.global_step, control, model)

    def _validate(self, step: int, control: Any, model: Any) -> None:
        began = time.monotonic()
        measured = self._measure()
        self._emit(Validation(step, measured.loss, measured.accuracy, measured.margin))
        if self.best and self.best.update(measured.loss, step, model):
            control.should_training_stop = True
            self._emit(
                Stage(f"Stopping early: {self.best.failed} validations were no better than {self.best.loss:.4f}")
            )
        self._paused += time.monotonic() - began
