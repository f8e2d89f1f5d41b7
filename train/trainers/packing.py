"""Which rows share a batch, and how: packed end to end without seeing each other, or padded; sizes of micro-batches.

In a packed batch a row's queries never meet keys of another row, so no mask is needed; positions begin at 0 in each
row. Rows that are padded on the right need no mask either, because causal attention only looks back. If flash attention
is installed, its variable-length kernels do the same in one call.

`strays` measures on the model and rows of a run whether rows influence each other (through a convolution, a recurrent
state or an unknown attention): such a run is not packed.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.data import Sampler
from transformers import AttentionInterface

from train.trainers.labelled import LabelledRow
from train.trainers.pairs import Pair
from train.trainers.tokens import IGNORED, Row

BY_ROW, FLASH = "parley_by_row", "flash_attention_2"
LEAK_LIMIT = 1e-5  # in float32, as a share of the largest logit
_LEAK_LIMIT_HALF = 0.05  # in 16 bits, where rounding alone reaches 0.01; a leak moves logits by tenths
_CHECKED_TOKENS, _CHECKED_PLACES = 512, 16  # of a row; each place costs logits over the whole vocabulary
Measurable = TypeVar("Measurable", Row, Pair, LabelledRow)

_MEASURED_AT_ONCE = 4_096  # tokens with padding, without gradients


def leak_limit(model: Any) -> float:
    """The largest value of `strays` that rounding alone explains, for the model's number format."""
    full = next(model.parameters()).dtype == torch.float32 and not getattr(model, "is_quantized", False)
    return LEAK_LIMIT if full else _LEAK_LIMIT_HALF


class PaddedCollator:
    """Rows padded on the right, without a mask, for a model with `attend_by_row`."""

    def __init__(self, pad_token: int) -> None:
        self._pad_token = pad_token

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        padded = [(row, width - len(row["input_ids"])) for row in rows]
        return {
            "input_ids": torch.tensor([row["input_ids"] + [self._pad_token] * padding for row, padding in padded]),
            "labels": torch.tensor([row["labels"] + [IGNORED] * padding for row, padding in padded]),
            "tokens": sum(len(row["input_ids"]) for row in rows),
        }


class PackedCollator:
    """Rows as one sequence, with the keys of transformers' variable-length attention."""

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        # Nothing predicts a row's first token, least of all the end of the previous row.
        labels = [label for row in rows for label in (IGNORED, *row["labels"][1:])]
        return {
            "input_ids": torch.tensor([[token for row in rows for token in row["input_ids"]]]),
            "labels": torch.tensor([labels]),
            "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
            "tokens": sum(lengths),
        }


def attend_by_row(model: Any, flash: bool = False) -> None:
    """Makes a model accept batches of `PackedCollator`, and batches padded on the right without a mask."""
    if not flash:
        AttentionInterface.register(BY_ROW, _by_row)
    model.set_attn_implementation(FLASH if flash else BY_ROW)


def strays(model: Any, rows: Sequence[Row], flash: bool = False) -> float:
    """The largest difference of logits between packed rows and single rows under the model's own attention, as a share
    of the largest logit. It compares the shortest, the median and the longest row at some positions, among them the
    first and the last, and leaves the model unchanged.
    """
    before, training = model.config._attn_implementation, model.training
    by_length = sorted((row.input_ids[:_CHECKED_TOKENS] for row in rows), key=len)
    ids = [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
    places = [torch.linspace(0, len(row) - 1, min(len(row), _CHECKED_PLACES)).round().long() for row in ids]
    starts = [0, len(ids[0]), len(ids[0]) + len(ids[1])]
    device = next(model.parameters()).device

    def logits(batch: dict[str, Any], at: torch.Tensor) -> torch.Tensor:
        moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
        hidden = model.base_model(**moved, use_cache=False).last_hidden_state[0]
        return model.get_output_embeddings()(hidden[at.to(device)]).float()

    model.eval()
    try:
        with torch.no_grad():
            single = [logits({"input_ids": torch.tensor([row])}, at) for row, at in zip(ids, places, strict=True)]
            attend_by_row(model, flash)
            batch = PackedCollator()([{"input_ids": row, "labels": row} for row in ids])
            del batch["labels"], batch["tokens"]
            packed = logits(batch, torch.cat([start + at for start, at in zip(starts, places, strict=True)]))
    finally:
        model.set_attn_implementation(before)
        model.train(training)
    expected = torch.cat(single)
    return float((packed - expected).abs().max() / expected.abs().max())


def _by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention; states are (batch, heads, tokens, size), the output is (batch, tokens, heads, size).

    With `cu_seq_lens_q` the batch is one sequence of rows that begin at these positions; without it, rows padded on the
    right.
    """

    def attend(start: int, end: int) -> torch.Tensor:
        length = end - start
        mask = None
        if sliding_window and length > sliding_window:
            mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
        return scaled_dot_product_attention(
            *(states[:, :, start:end] for states in (query, key, value)),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )

    if cu_seq_lens_q is None:
        output = attend(0, query.shape[2])
    else:
        output = torch.cat([attend(start, end) for start, end in pairwise(cu_seq_lens_q.tolist())], 2)
    return output.transpose(1, 2).contiguous(), None


def pad_batch(ids: Sequence[list[int]], masks: Sequence[list[int]], pad_token: int) -> dict[str, torch.Tensor]:
    """Rows of token ids and the masks of their answers as tensors of shape (rows, longest), padded on the right."""
    width = max(len(row) for row in ids)
    return {
        "input_ids": torch.tensor([row + [pad_token] * (width - len(row)) for row in ids]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids]),
        "completion_mask": torch.tensor([mask + [0] * (width - len(mask)) for mask in masks]),
    }


def measuring_batches(rows: Sequence[Measurable], sequences: int = 1, fewest: int = 1) -> list[list[Measurable]]:
    """Batches for measuring a loss, by length. `sequences` is 2 for pairs, which have two sequences each.

    A batch has `fewest` rows at least, if there are so many.
    """
    batches: list[list[Measurable]] = []
    for row in sorted(rows, key=lambda row: row.longest):
        is_full = batches and sequences * (len(batches[-1]) + 1) * row.longest > _MEASURED_AT_ONCE
        if not batches or (is_full and len(batches[-1]) >= fewest):
            batches.append([])
        batches[-1].append(row)
    if len(batches) > 1 and len(batches[-1]) < fewest:
        last = batches.pop()
        batches[-1] += last
    return batches


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
