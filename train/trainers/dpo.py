"""Direct preference optimisation (arXiv:2305.18290) with TRL's DPOTrainer.

The reference model is the base: with an adapter, the same weights with the adapter disabled; for full tuning, a frozen
copy. Token ids and labels come with the pairs (`pairs`) instead of from TRL's tokenisation.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from trl import DPOConfig, DPOTrainer

from train.trainers.fit_job import Measured
from train.trainers.packing import measuring_batches, pad_batch
from train.trainers.pairs import Pair
from train.trainers.runtime import use_one_gpu
from train.trainers.tokenised_trainer import LogProbabilities, ReferenceComparison, TokenisedTrainer, TrainerParts
from train.trainers.tokens import IGNORED, Row


def dpo_trainer(parts: TrainerParts, pairs: Sequence[Pair], arguments: dict[str, Any]) -> DPOTrainer:
    """A trainer over pairs; `arguments` is the TRL configuration that all methods share (`fit`), and beta."""
    # TRL requires the tokenizer to have a padding token; only its id is used, and it is masked.
    parts.tokenizer.pad_token_id = parts.pad_token
    return _Trainer(
        model=parts.model,
        ref_model=parts.reference,
        args=use_one_gpu(DPOConfig(**arguments, max_length=None)),
        data_collator=_Collator(parts.pad_token),
        train_dataset=Dataset.from_list([_columns(pair) for pair in pairs]),
        processing_class=parts.tokenizer,
        peft_config=parts.adapter,
    )


class PairMeter:
    """Measures a trainer's model over pairs."""

    def __init__(self, trainer: DPOTrainer, pairs: Sequence[Pair]) -> None:
        self._beta = trainer.beta
        batches = [[_columns(pair) for pair in batch] for batch in measuring_batches(pairs, 2)]
        self._comparison = ReferenceComparison(trainer, batches)

    def __call__(self) -> Measured:
        """The mean DPO loss, the share of pairs ranked correctly, and the mean margin in nats."""
        (chosen, rejected), (chosen_before, rejected_before), _ = self._comparison.evaluate(_log_probabilities)
        rewards = self._beta * (chosen - rejected - (chosen_before - rejected_before))
        return Measured(-logsigmoid(rewards).mean().item(), (rewards > 0).float().mean().item(), rewards.mean().item())


def _log_probabilities(model: Any, batch: dict[str, torch.Tensor]) -> LogProbabilities:
    """The log-probabilities of the preferred answers and of the others, in nats."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    output = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True
    )
    chosen, rejected = output.log_probs.sum(1).chunk(2)
    return chosen, rejected


_COLUMNS = ("chosen_ids", "chosen_mask", "rejected_ids", "rejected_mask")


def _columns(pair: Pair) -> dict[str, list[int]]:
    return dict(zip(_COLUMNS, (*_side(pair.chosen), *_side(pair.rejected)), strict=True))


def _side(row: Row) -> tuple[list[int], list[int]]:
    return row.input_ids, [int(label != IGNORED) for label in row.labels]


class _Collator:
    """Pairs to one batch: the rows of preferred answers first, then the others, as TRL's loss expects them.

    TRL's own collator counts everything after the prompt as the answer. Here a mask excludes what a template writes
    after the end of a turn.
    """

    def __init__(self, pad_token: int) -> None:
        self._pad_token = pad_token

    def __call__(self, pairs: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        ids = [pair[f"{side}_ids"] for side in ("chosen", "rejected") for pair in pairs]
        masks = [pair[f"{side}_mask"] for side in ("chosen", "rejected") for pair in pairs]
        return pad_batch(ids, masks, self._pad_token)


class _Trainer(TokenisedTrainer, DPOTrainer):
    """TRL's trainer over tokenised pairs."""

    columns = _COLUMNS

    def lengths(self, data: Any) -> list[int]:
        return [max(len(pair["chosen_ids"]), len(pair["rejected_ids"])) for pair in data]
