"""Supervised fine-tuning with TRL's SFTTrainer, on labelled tokens only.

The labels come with the rows (`tokens`) instead of TRL's masking; a test compares the two. `fit` runs the trainer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from train.trainers.runtime import use_one_gpu
from train.trainers.tokenised_trainer import TokenisedTrainer, TrainerParts
from train.trainers.tokens import Row


def sft_trainer(
    parts: TrainerParts, rows: Sequence[Row], arguments: dict[str, Any], collate: Callable[[Any], dict[str, Any]]
) -> SFTTrainer:
    """A trainer over rows.

    Args:
        parts: its model has `losses.add_learnt_head`.
        rows: the training rows.
        arguments: the TRL configuration that all methods share (`fit`).
        collate: makes a batch of rows (`packing`).
    """
    return _Trainer(
        model=parts.model,
        args=use_one_gpu(SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        data_collator=collate,
        train_dataset=Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows]),
        processing_class=parts.tokenizer,
        peft_config=parts.adapter,
    )


class _Trainer(TokenisedTrainer, SFTTrainer):
    """TRL's trainer over tokenised rows, on a CPU with the loss of `losses`."""

    columns = ("input_ids", "labels")

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

    def lengths(self, data: Any) -> list[int]:
        return [len(ids) for ids in data["input_ids"]]
