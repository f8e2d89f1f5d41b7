"""LoRA fine-tuning with TRL: rows of ids and labels in, an adapter's files and two losses out.

The labels come with the rows (`tokens`), so TRL's own masking is not asked for; a test holds the two together. It
knows no files of conversations and no registry.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import Sampler
from transformers import TrainerCallback, set_seed
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from models.errors import ParleyError
from train.adapters import round_adapter, save_adapter, saved_dtype
from train.bases import Base, load_model, stored_dtype
from train.hyperparameters import Chosen
from train.losses import mean_loss
from train.progress import Progress, Stage, Step, Validation
from train.tokens import Row

_TOKENS_AT_ONCE = 16_384  # in one micro-batch, padding included: bounds the memory of activations
_CHECKPOINTED = 1_000_000_000  # parameters from which activations are computed again instead of kept


@dataclass(frozen=True)
class Fitted:
    """What the training itself measured. Losses in nats per learnt token, over all rows measured."""

    loss_before: float
    loss_after: float
    steps: int
    tokens: int
    learnt_tokens: int
    seconds: float


class TrainingDiverged(ParleyError):
    """The loss is not a number any more; the message says at which step."""

    status = 422


@dataclass(frozen=True)
class Place:
    """Where a run works: a folder for the trainer's own files, the adapter's folder, and the device.

    `base_name` is what adapter_config.json calls the base: a name that means something on other machines.
    """

    work: Path
    adapter: Path
    base_name: str
    device: str


def fit(
    base: Base,
    tokenizer: Any,
    rows: Sequence[Row],
    measured: Sequence[Row],
    settings: Chosen,
    place: Place,
    progress: Progress,
) -> Fitted:
    """Trains a LoRA adapter and writes it to the folder `place.adapter`.

    Args:
        base: the weights, which stay as they are. tokenizer: its tokenizer.
        rows: what is learnt. measured: what the losses before and after (and at each epoch's end) are taken on.
        settings: the run's hyperparameters.
        progress: told of every step; what it raises ends the training.

    Raises:
        TrainingDiverged: NaN or infinity in the loss, with the step.
    """
    set_seed(settings.seed)
    stored = stored_dtype(base)
    half = place.device == "cuda" and torch.cuda.is_bf16_supported()
    precision = "4-bit" if settings.qlora else "bf16" if half else "fp32"
    progress(Stage(f"Loading {base.name} ({precision}, {place.device})"))
    model = load_model(base, torch.bfloat16 if half else torch.float32, place.device, settings.qlora)
    pad_token = _pad_token(tokenizer)
    watcher = _Watcher(len(rows) / settings.batch_size, measured, pad_token, progress)
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, rows, model, place, half),
        data_collator=DataCollatorForLanguageModeling(pad_token_id=pad_token),
        train_dataset=Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows]),
        processing_class=tokenizer,
        callbacks=[watcher],
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            target_modules="all-linear",
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
        ),
    )
    trainer.remove_callback(PrinterCallback)
    before = mean_loss(trainer.model, measured, pad_token)
    progress(Validation(0, before))
    began = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - began
    # The loss is measured on what is saved, so the adapter is rounded to its stored precision first.
    dtype = saved_dtype(settings.adapter_dtype, stored)
    round_adapter(trainer.model, dtype)
    after = mean_loss(trainer.model, measured, pad_token)
    progress(Validation(trainer.state.global_step, after))
    save_adapter(trainer.model, place.adapter, place.base_name, dtype)
    learnt = sum(row.learnt for row in rows) / sum(len(row.input_ids) for row in rows)
    return Fitted(before, after, trainer.state.global_step, watcher.tokens, round(watcher.tokens * learnt), seconds)


def _arguments(settings: Chosen, rows: Sequence[Row], model: Any, place: Place, half: bool) -> SFTConfig:
    batch = settings.batch_size
    steps = max(1, round(math.ceil(len(rows) / batch) * settings.epochs))
    micro = _micro_batch(batch, max(len(row.input_ids) for row in rows))
    arguments = SFTConfig(
        output_dir=str(place.work),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=batch // micro,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=round(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        bf16=half,
        use_cpu=place.device == "cpu",
        gradient_checkpointing=model.num_parameters() > _CHECKPOINTED,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        logging_steps=1,
        logging_nan_inf_filter=False,  # the default hides a NaN behind the last good loss
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=place.device == "cuda",
        seed=settings.seed,
    )
    if place.device == "cuda":
        # With several cards visible the trainer would copy the model to each, which TRL refuses: one card is used.
        arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def _micro_batch(batch: int, longest: int) -> int:
    """The largest part of a batch that is worked on at once, so that `batch` is a whole number of them."""
    return next((size for size in range(batch, 1, -1) if batch % size == 0 and size * longest <= _TOKENS_AT_ONCE), 1)


def _pad_token(tokenizer: Any) -> int:
    # Padding is masked and carries no label, so any id will do where a tokenizer has none of its own.
    return next((token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None), 0)


class _Trainer(SFTTrainer):
    """TRL's trainer, with batches of like length in random order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LikeLengths([len(ids) for ids in data["input_ids"]], batch, self.args.seed)


class LikeLengths(Sampler):
    """Batches whose rows are of like length, in random order; a new order each epoch, the same for a seed.

    transformers' own group_by_length sorts 50 batches at a time and leaves them sorted, so that a small set is
    learnt from its longest to its shortest row. Here rows are sorted with noise, cut, and the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = torch.tensor(lengths, dtype=torch.float32)
        self._batch = batch
        self._random = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        noise = 1 + 0.2 * (torch.rand(len(self._lengths), generator=self._random) - 0.5)
        order = torch.argsort(self._lengths * noise).tolist()
        batches = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        # The one short batch stays last: anywhere else it would shift the cuts of all that follow.
        short = [batches.pop()] if len(batches[-1]) < self._batch else []
        shuffled = torch.randperm(len(batches), generator=self._random).tolist()
        for batch in [batches[place] for place in shuffled] + short:
            yield from batch


class _Watcher(TrainerCallback):
    """Tells each step, measures at the end of an epoch, and stops a run whose loss is no number."""

    def __init__(self, steps_per_epoch: float, measured: Sequence[Row], pad_token: int, progress: Progress) -> None:
        self._steps_per_epoch = math.ceil(steps_per_epoch)
        self._measured, self._pad_token, self._progress = measured, pad_token, progress
        self._began = 0.0
        self._paused = 0.0
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._began = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingDiverged(
                f"The loss is {logs['loss']} at step {state.global_step}: training stopped. Lower the learning rate "
                f"(it is {args.learning_rate:g}), or look for a damaged base."
            )
        self.tokens = int(logs.get("num_tokens", 0))
        seconds = time.monotonic() - self._began - self._paused
        self._progress(
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
            )
        )

    def on_epoch_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step < state.max_steps:  # the last measurement is made on what is saved
            began = time.monotonic()
            self._progress(Validation(state.global_step, mean_loss(model, self._measured, self._pad_token)))
            self._paused += time.monotonic() - began
