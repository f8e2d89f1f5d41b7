"""The exact mean loss of a model over the learnt tokens of rows, independent of batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.trainers.batches import measuring_batches
from train.trainers.tokens import IGNORED, Row


@dataclass(frozen=True)
class Measured:
    """A mean over rows. For SFT `loss` is in nats per learnt token and `accuracy` the share of them that the model
    would have put first; for DPO they are the mean DPO loss and the share of pairs rated the right way round, and
    `margin` is the mean of the preferred answer's reward over the other's, in nats.
    """

    loss: float
    accuracy: float
    margin: float | None = None


def measure(model: Any, rows: Sequence[Row], pad_token: int) -> Measured:
    """Loss and accuracy over learnt tokens, of a model with `heads.add_learnt_head`; its mode is left as it was."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    total, count, right = 0.0, 0, 0
    with torch.no_grad():
        for batch in measuring_batches(rows):
            width = max(len(row.input_ids) for row in batch)
            ids = torch.tensor([row.input_ids + [pad_token] * (width - len(row.input_ids)) for row in batch])
            labels = torch.tensor([row.labels + [IGNORED] * (width - len(row.labels)) for row in batch])
            mask = torch.tensor([[1] * len(row.input_ids) + [0] * (width - len(row.input_ids)) for row in batch])
            learnt = model(
                input_ids=ids.to(device), attention_mask=mask.to(device), labels=labels.to(device), learnt_only=True
            )
            total += learnt.loss_sum.item()
            count += int(learnt.count)
            right += int(learnt.right)
    model.train(training)
    return Measured(total / max(1, count), right / max(1, count))
