"""Which rows share a batch: rows of like length in random order, and how large a part is worked on at once.

It knows lengths and seeds, not what the rows say.
"""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

TOKENS_AT_ONCE = 16_384  # in one micro-batch, padding included: bounds the memory of activations


def micro_batch(batch: int, longest: int, tokens: int = TOKENS_AT_ONCE, rows: int | None = None) -> int:
    """The largest part of a batch that is worked on at once, so that `batch` is a whole number of them.

    `rows` bounds it further, where memory has shown that it must.
    """
    most = min(batch, rows or batch)
    return next((size for size in range(most, 1, -1) if batch % size == 0 and size * longest <= tokens), 1)


class LikeLengths(Sampler):
    """Batches whose rows are of like length, in random order; a new order each epoch, the same for a seed.

    transformers' own group_by_length sorts 50 batches at a time and leaves them sorted, so that a small set is
    learnt from its longest to its shortest row. Here rows are sorted with noise, cut, and the batches shuffled.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        self._lengths = torch.tensor(lengths, dtype=torch.float32)
        self._batch = batch
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """The order of an epoch depends on the seed and its number alone, so that a resumed run meets the same one."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        chance = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        noise = 1 + 0.2 * (torch.rand(len(self._lengths), generator=chance) - 0.5)
        order = torch.argsort(self._lengths * noise).tolist()
        batches = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
        # The one short batch stays last: anywhere else it would shift the cuts of all that follow.
        short = [batches.pop()] if len(batches[-1]) < self._batch else []
        shuffled = torch.randperm(len(batches), generator=chance).tolist()
        for batch in [batches[place] for place in shuffled] + short:
            yield from batch
