"""Which rows share a batch (similar lengths, in random order), and the size of micro-batches."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch.utils.data import Sampler

from train.trainers.pairs import Pair
from train.trainers.tokens import Row

Measurable = TypeVar("Measurable", Row, Pair)

_MEASURED_AT_ONCE = 4_096  # tokens with padding, without gradients
TOKENS_AT_ONCE = 16_384  # in one micro-batch with padding: limits the memory of activations


def micro_batch(batch: int, longest: int, tokens: int = TOKENS_AT_ONCE, rows: int | None = None) -> int:
    """The largest micro-batch that divides `batch` evenly and has at most `tokens` tokens with padding.

    `rows` limits it further, after memory ran out.
    """
    most = min(batch, rows or batch)
    return next((size for size in range(most, 1, -1) if batch % size == 0 and size * longest <= tokens), 1)


def measuring_batches(rows: Sequence[Measurable], sequences: int = 1) -> Iterator[list[Measurable]]:
    """Batches for measuring a loss, by length. `sequences` is 2 for pairs, which have two sequences each."""
    batch: list[Measurable] = []
    for row in sorted(rows, key=lambda row: row.longest):
        if batch and sequences * (len(batch) + 1) * row.longest > _MEASURED_AT_ONCE:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class SimilarLengthSampler(Sampler):
    """Batches of rows with similar lengths, in random order; each epoch has its own order, fixed by the seed.

    Transformers' group_by_length sorts 50 batches at a time and leaves them sorted, so that a small data set is learnt
    from its longest to its shortest row. Here rows are sorted with noise, cut into batches, and the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = torch.tensor(lengths, dtype=torch.float32)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of an epoch depends on the seed and its number only, so that a resumed run sees the same one."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        noise = 1 + 0.2 * (torch.rand(len(self._lengths), generator=generator) - 0.5)
        order = torch.argsort(self._lengths * noise).tolist()
        batches = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        # The short batch stays last: anywhere else it would shift the boundaries of all later batches.
        short = [batches.pop()] if len(batches[-1]) < self._batch else []
        shuffled = torch.randperm(len(batches), generator=generator).tolist()
        for batch in [batches[index] for index in shuffled] + short:
            yield from batch
