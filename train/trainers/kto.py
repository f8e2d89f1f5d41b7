"""Training on answers that are labelled good or bad (KTO, arXiv:2402.01306) with TRL's KTOTrainer.

The reference model is the base, as for DPO. Token ids and labels come with the rows instead of from TRL's tokenisation.
The drift from the base is estimated on mismatched rows: each prompt of a micro-batch with the answer of the previous
row. So a micro-batch has at least two rows. The last one of an epoch may have one row, which gets a fixed row's answer.
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from train.trainers.fit_job import FEWEST_ROWS, Measured
from train.trainers.labelled import LabelledRow
from train.trainers.packing import measuring_batches, pad_batch
from train.trainers.runtime import use_one_gpu
from train.trainers.tokenised_trainer import LogProbabilities, ReferenceComparison, TokenisedTrainer, TrainerParts
from train.trainers.tokens import IGNORED


def kto_trainer(parts: TrainerParts, rows: Sequence[LabelledRow], arguments: dict[str, Any]) -> KTOTrainer:
    """A trainer over labelled rows; `arguments` is the TRL configuration that all methods share (`fit`), and beta.

    Both labels have the same total weight, as the paper advises: rows with the rarer label have a weight above 1.
    """
    parts.tokenizer.pad_token_id = parts.pad_token  # TRL requires one
    good = sum(row.good for row in rows)
    bad = len(rows) - good
    weights = {"desirable_weight": max(1.0, bad / max(1, good)), "undesirable_weight": max(1.0, good / max(1, bad))}
    columns = [_columns(row) for row in rows]
    return _Trainer(
        model=parts.model,
        ref_model=parts.reference,
        args=use_one_gpu(KTOConfig(**arguments, **weights, max_length=None)),
        data_collator=_Collator(parts.pad_token, columns[:2]),
        train_dataset=Dataset.from_list(columns),
        processing_class=parts.tokenizer,
        peft_config=parts.adapter,
    )


class LabelMeter:
    """Measures a trainer's model over labelled rows."""

    def __init__(self, trainer: KTOTrainer, rows: Sequence[LabelledRow]) -> None:
        self._trainer: Any = trainer
        batches = [[_columns(row) for row in batch] for batch in measuring_batches(rows, 2, FEWEST_ROWS["kto"])]
        self._comparison = ReferenceComparison(trainer, batches)

    def __call__(self) -> Measured:
        """The mean KTO loss, the share of rows whose answer has become likelier (good) or less likely (bad) than an
        answer to another question, and the mean reward of good answers minus that of bad ones, in nats.
        """
        trainer = self._trainer
        current, reference, batches = self._comparison.evaluate(_log_probabilities)
        gains, drifts = (now - before for now, before in zip(current, reference, strict=True))
        good = torch.cat([batch["label"].cpu() for batch in batches])
        margins = trainer.beta * (gains - drifts.mean().clamp(min=0)) * torch.where(good, 1.0, -1.0)
        weights = torch.where(good, trainer.desirable_weight, trainer.undesirable_weight)
        rewards = trainer.beta * gains
        both = good.any() and not good.all()
        return Measured(
            (weights * (1 - torch.sigmoid(margins))).mean().item(),
            (margins > 0).float().mean().item(),
            (rewards[good].mean() - rewards[~good].mean()).item() if both else None,
        )


def _log_probabilities(model: Any, batch: dict[str, torch.Tensor]) -> LogProbabilities:
    """The log-probability of each row's answer and of its mismatched answer, in nats."""
    sums = []
    for prefix in ("", "KL_"):
        labels = batch[f"{prefix}input_ids"].masked_fill(batch[f"{prefix}completion_mask"] == 0, IGNORED)
        output = model(
            input_ids=batch[f"{prefix}input_ids"], attention_mask=batch[f"{prefix}attention_mask"], labels=labels,
            fused_lm_head=True,
        )  # fmt: skip
        sums.append(output.log_probs.sum(1))
    return sums[0], sums[1]


_COLUMNS = ("prompt_ids", "completion_ids", "completion_mask", "label")


def _columns(row: LabelledRow) -> dict[str, Any]:
    mask = [int(label != IGNORED) for label in row.labels]
    start = mask.index(1)
    return dict(zip(_COLUMNS, (row.input_ids[:start], row.input_ids[start:], mask[start:], row.good), strict=True))


class _Collator:
    """Labelled rows to one batch with the keys of TRL's loss; `KL_…` are the mismatched rows.

    TRL's own collator counts everything after the prompt as the answer. Here a mask excludes what a template writes
    after the end of a turn.
    """

    def __init__(self, pad_token: int, others: Sequence[dict[str, Any]]) -> None:
        """`others`: two rows, of which a row alone in its batch gets the answer of one that is not itself."""
        self._pad_token, self._others = pad_token, others

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        before = [rows[-1], *rows[:-1]]
        if len(rows) == 1:
            before = [next((row for row in self._others if row != rows[0]), rows[0])]
        matched, mismatched = self._padded(rows, rows), self._padded(rows, before)
        return {
            **matched,
            **{f"KL_{name}": tensor for name, tensor in mismatched.items()},
            "label": torch.tensor([bool(row["label"]) for row in rows]),
        }

    def _padded(self, prompts: Sequence[dict[str, Any]], answers: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        both = list(zip(prompts, answers, strict=True))
        ids = [prompt["prompt_ids"] + answer["completion_ids"] for prompt, answer in both]
        masks = [[0] * len(prompt["prompt_ids"]) + answer["completion_mask"] for prompt, answer in both]
        return pad_batch(ids, masks, self._pad_token)


class _Trainer(TokenisedTrainer, KTOTrainer):
    """TRL's trainer over tokenised rows.

    TRL asks for rows in their order, because it finds the mismatched answers beforehand; here the collator does.
    """

    columns = _COLUMNS

    def lengths(self, data: Any) -> list[int]:
        return [len(row["prompt_ids"]) + len(row["completion_ids"]) for row in data]
