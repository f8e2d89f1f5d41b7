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
from train.trainers.packing import SimilarLengthSampler, measuring_batches, pad_batch
from train.trainers.pairs import Pair
from train.trainers.runtime import use_one_gpu
from train.trainers.tokens import IGNORED, Row


def dpo_trainer(
    model: Any,
    reference: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    arguments: dict[str, Any],
    pad_token: int,
    adapter: Any,
) -> DPOTrainer:
    """A trainer over pairs.

    Args:
        model: the base's weights. reference: a second copy of them for full tuning, None with an adapter.
        tokenizer: its tokenizer. pairs: the training pairs.
        arguments: the TRL configuration that both methods share (`fit`), and beta.
        pad_token: pads rows; it is masked, so any id will do.
        adapter: the LoraConfig; None for full tuning.
    """
    # TRL requires the tokenizer to have a padding token; only its id is used, and it is masked.
    tokenizer.pad_token_id = pad_token
    return _Trainer(
        model=model,
        ref_model=reference,
        args=use_one_gpu(DPOConfig(**arguments, max_length=None)),
        data_collator=_Collator(pad_token),
        train_dataset=Dataset.from_list([_columns(pair) for pair in pairs]),
        processing_class=tokenizer,
        peft_config=adapter,
    )


class PairMeter:
    """Measures a trainer's model over pairs. The reference is evaluated once, because it never changes."""

    def __init__(self, trainer: DPOTrainer, pairs: Sequence[Pair]) -> None:
        self._trainer, self._pairs = trainer, pairs
        self._reference: list[torch.Tensor] = []

    def __call__(self) -> Measured:
        """The mean DPO loss, the share of pairs ranked correctly, and the mean margin in nats."""
        trainer: Any = self._trainer
        model = trainer.model
        training = model.training
        model.eval()
        batches = [
            trainer._prepare_inputs(trainer.data_collator([_columns(pair) for pair in batch]))
            for batch in measuring_batches(self._pairs, 2)
        ]
        with torch.no_grad():
            if not self._reference:
                reference = trainer.ref_model or model
                self._reference = [_gap(*trainer.compute_ref_log_probs(reference, batch)) for batch in batches]
            gaps = [_gap(*_log_probabilities(model, batch).chunk(2)) for batch in batches]
        model.train(training)
        rewards = trainer.beta * (torch.cat(gaps) - torch.cat(self._reference))
        return Measured(-logsigmoid(rewards).mean().item(), (rewards > 0).float().mean().item(), rewards.mean().item())


def _gap(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    return (chosen - rejected).float().cpu()


def _log_probabilities(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The log-probability of each row's answer, in nats: preferred answers first, then the others."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORED)
    output = model(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=labels, fused_lm_head=True
    )
    return output.log_probs.sum(1)


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


class _Trainer(DPOTrainer):
    """TRL's trainer over tokenised pairs, in batches of similar length."""

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(_COLUMNS)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = [max(len(pair["chosen_ids"]), len(pair["rejected_ids"])) for pair in data]
        return SimilarLengthSampler(lengths, batch, self.args.seed)
