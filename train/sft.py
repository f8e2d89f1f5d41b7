"""Supervised fine-tuning with TRL's trainer: it learns the tokens that carry a label, and no others.

The labels come with the rows (`tokens`), so TRL's own masking is not asked for; a test holds the two together. It
knows no files of conversations and no registry; `fitting` runs the trainer that is made here.
"""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from train.batching import LikeLengths
from train.tokens import Row


def sft_trainer(
    model: Any, tokenizer: Any, rows: Sequence[Row], arguments: dict[str, Any], pad_token: int, adapter: Any
) -> SFTTrainer:
    """A trainer over rows.

    Args:
        model: the base's weights. tokenizer: its tokenizer.
        rows: what is learnt.
        arguments: what every method's trainer is told (`fitting`).
        pad_token: fills rows up; masked, so any id will do.
        adapter: peft's config of what learns; None where every weight does.
    """
    return _Trainer(
        model=model,
        args=SFTConfig(**arguments, max_length=None, dataset_kwargs={"skip_prepare_dataset": True}),
        data_collator=DataCollatorForLanguageModeling(pad_token_id=pad_token),
        train_dataset=Dataset.from_list([{"input_ids": row.input_ids, "labels": row.labels} for row in rows]),
        processing_class=tokenizer,
        peft_config=adapter,
    )


class _Trainer(SFTTrainer):
    """TRL's trainer, with batches of like length in random order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return LikeLengths([len(ids) for ids in data["input_ids"]], batch, self.args.seed)
