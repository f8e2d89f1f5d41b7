"""The part that TRL's trainers share: they train on token ids in batches of similar length, and DPO and KTO compare the
model with a reference that never changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from train.trainers.packing import SimilarLengthSampler

LogProbabilities = tuple[torch.Tensor, torch.Tensor]
"""The log-probabilities of two answers for each row of a batch, in nats."""


@dataclass(frozen=True)
class TrainerParts:
    """What a trainer is built from besides rows and arguments.

    Attributes:
        model: the base's weights.
        reference: a second copy of them for full tuning; None with an adapter, and for SFT.
        tokenizer: its tokenizer. pad_token: the id that pads rows; it is masked, so any id works.
        adapter: the LoraConfig; None for full tuning.
    """

    model: Any
    tokenizer: Any
    pad_token: int
    adapter: Any
    reference: Any = None


class TokenisedTrainer:
    """A mixin for TRL's trainers over rows with these columns."""

    columns: tuple[str, ...]
    args: Any
    train_dataset: Any
    sampler: SimilarLengthSampler | None = None

    def lengths(self, data: Any) -> list[int]:
        """The length of each row of a data set, in tokens."""
        raise NotImplementedError

    def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(self.columns)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        data: Any = train_dataset if train_dataset is not None else self.train_dataset
        batch = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        self.sampler = SimilarLengthSampler(self.lengths(data), batch, self.args.seed)
        return self.sampler


class ReferenceComparison:
    """A trainer's model beside its reference, over batches of rows with the trainer's columns."""

    def __init__(self, trainer: Any, batches: Sequence[Sequence[dict[str, Any]]]) -> None:
        self._trainer, self._batches = trainer, batches
        self._reference: list[LogProbabilities] = []

    def evaluate(
        self, log_probabilities: Callable[[Any, Any], LogProbabilities]
    ) -> tuple[LogProbabilities, LogProbabilities, list[dict[str, torch.Tensor]]]:
        """The model's log-probabilities, the reference's, and the batches. The reference is evaluated once."""
        trainer = self._trainer
        model, training = trainer.model, trainer.model.training
        model.eval()
        batches = [trainer._prepare_inputs(trainer.data_collator(list(rows))) for rows in self._batches]
        with torch.no_grad():
            if not self._reference:
                reference = trainer.ref_model or model
                self._reference = [trainer.compute_ref_log_probs(reference, batch) for batch in batches]
            current = [log_probabilities(model, batch) for batch in batches]
        model.train(training)
        return _joined(current), _joined(self._reference), batches


def _joined(parts: Sequence[LogProbabilities]) -> LogProbabilities:
    first, second = (torch.cat([part[place].float().cpu() for part in parts]) for place in (0, 1))
    return first, second
