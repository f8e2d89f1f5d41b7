"""Supervised fine-tuning with TRL's trainer: it learns the tokens that carry a label, and no others.

The labels come with the rows (`tokens`), so TRL's own masking is not asked for; a test holds the two together. It
knows no files of conversations and no registry; `fitting` runs the trainer that is made here.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from train.trainers.batches import LikeLengths
from train.trainers.devices import one_card
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
        model: the base's weights, with `heads.add_learnt_head`. tokenizer: its tokenizer.
        rows: what is learnt.
        arguments: what every method's trainer is told (`fitting`).
        collate: makes a batch of rows (`packing`).
        adapter: peft's config of what learns; None where every weight does.
    """
    return _Trainer(
        model=model,
        args=one_card(SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})),
        data_collator=collate,
        train_dataset=Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter,
    )


class _Trainer(SFTTrainer):
    """TRL's trainer, with batches of like length in random order, and on a CPU with the loss of `heads`."""

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        tokens = inputs.pop("tokens", None)
        if self.args.device.type != "cpu" or self.aux_loss_enabled:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        learnt = model(**inputs, learnt_only=True)
        tokens = inputs["attention_mask"].sum() if tokens is None else tokens
        # As TRL does it: the sum over what the whole batch learns, all micro-batches and processes together.
        loss = learnt.loss_sum / (learnt.count if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        told = torch.tensor([int(learnt.right), int(learnt.count), int(tokens)])
        right, count, seen = self.accelerator.gather_for_metrics(told[None]).sum(0).tolist()
        self._metrics["train"]["mean_token_accuracy"].append(right / max(1, count))
        self._total_train_tokens += seen
        self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
        return loss

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LikeLengths([len(ids) for ids in data["input_ids"]], batch, self.args.seed)
