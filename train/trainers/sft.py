"""Supervised fine-tuning with TRL's SFTTrainer, on labelled tokens only.

The labels come with the rows (`tokens`) instead of TRL's masking; a test compares the two. `fit` runs the trainer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from train.trainers.packing import SimilarLengthSampler
from train.trainers.runtime import use_one_gpu
from train.trainers.tokens import Row


def sft_trainer(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    arguments: dict[str, Any],
    collate: Callable[[Any], dict[str, Any]],
    adapter: Any,
) -> SFTTrainer:
    """A trainer over rows.

    Args:
        model: the base's weights, with `losses.add_learnt_head`. tokenizer: its tokenizer.
        rows: the training rows.
        arguments: the TRL configuration that both methods share (`fit`).
        collate: makes a batch of rows (`packing`).
        adapter: the LoraConfig; None for full tuning.
    """
    return _Trainer(
        model=model,
        args=use_one_gpu(SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        data_collator=collate,
        train_dataset=Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter,
    )


class _Trainer(SFTTrainer):
    """TRL's trainer with batches of similar length in random order, and on a CPU with the loss of `losses`."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = inputs.pop("tokens", None)
        if self.args.device.type != "cpu" or self.aux_loss_enabled:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        learnt = model(**inputs, learnt_only=True)
        tokens = inputs["attention_mask"].sum() if tokens is None else tokens
        # As TRL does: divided by the learnt tokens of the whole batch, all micro-batches and processes together.
        loss = learnt.loss_sum / (learnt.count if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        counts = torch.tensor([int(learnt.right), int(learnt.count), int(tokens)])
        right, count, total = self.accelerator.gather_for_metrics(counts[None]).sum(0).tolist()
        self._metrics["train"]["mean_token_accuracy"].append(right / max(1, count))
        self._total_train_tokens += total
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return SimilarLengthSampler([len(ids) for ids in data["input_ids"]], batch, self.args.seed)
