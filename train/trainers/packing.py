"""Attention that works row by row, for rows laid end to end without padding; and the proof that no row sees another.

A row's queries meet no key of another row, so there is no mask that could let one through; positions begin at 0 with
each row. Rows that are padded on the right need no mask either: causal attention looks back only. Where flash
attention is installed its variable-length kernels do the same in one call.

`strays` measures, on the very model and rows of a run, whether anything lets rows touch (a convolution, a recurrent
state), or whether the model's attention is one that is not known here: such a run is not packed.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from train.trainers.tokens import IGNORED, Row

BY_ROW, FLASH = "parley_by_row", "flash_attention_2"
LEAK_LIMIT = 1e-5  # in float32, as a share of the largest logit
_LEAK_LIMIT_HALF = 0.05  # in 16 bits, whose rounding alone reaches a hundredth; a leak moves logits by tenths
_PROOF_TOKENS = 512


def leak_limit(model: Any) -> float:
    """How far `strays` may be from 0 by rounding alone, for the format in which a model computes."""
    whole = next(model.parameters()).dtype == torch.float32 and not getattr(model, "is_quantized", False)
    return LEAK_LIMIT if whole else _LEAK_LIMIT_HALF


class PaddedCollator:
    """Rows padded on the right, without a mask: for a model made to `attend_by_row`, which looks back only."""

    def __init__(self, pad_token: int) -> None:
        self._pad_token = pad_token

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        filled = [width - len(row["input_ids"]) for row in rows]
        each = list(zip(rows, filled, strict=True))
        return {
            "input_ids": torch.tensor([row["input_ids"] + [self._pad_token] * more for row, more in each]),
            "labels": torch.tensor([row["labels"] + [IGNORED] * more for row, more in each]),
            "tokens": sum(len(row["input_ids"]) for row in rows),
        }


class PackedCollator:
    """Rows to one sequence. The keys are those that transformers' variable-length attention takes."""

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        ends = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        # A row's first token is foretold by nothing, least of all by the end of the row before it.
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
    """Makes a model take batches of `PackedCollator`, and batches padded on the right without a mask."""
    if not flash:
        AttentionInterface.register(BY_ROW, _by_row)
    model.set_attn_implementation(FLASH if flash else BY_ROW)


def strays(model: Any, rows: Sequence[Row], flash: bool = False) -> float:
    """How far logits stray when rows are laid end to end, against each row alone under the model's own attention: the
    largest difference, as a share of the largest logit. The shortest, the middle and the longest row are tried, and
    the model is left as it was.
    """
    before, training = model.config._attn_implementation, model.training
    by_length = sorted((row.input_ids[:_PROOF_TOKENS] for row in rows), key=len)
    ids = [by_length[0], by_length[len(by_length) // 2], by_length[-1]]
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            alone = [model(input_ids=torch.tensor([one], device=device), use_cache=False).logits[0] for one in ids]
            attend_by_row(model, flash)
            batch = PackedCollator()([{"input_ids": one, "labels": one} for one in ids])
            del batch["labels"], batch["tokens"]
            moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in batch.items()}
            packed = model(**moved, use_cache=False).logits[0]
    finally:
        model.set_attn_implementation(before)
        model.train(training)
    expected = torch.cat(alone).float()
    return float((packed.float() - expected).abs().max() / expected.abs().max())


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
    """Causal attention; states are (batch, heads, tokens, size), the answer is (batch, tokens, heads, size).

    With `cu_seq_lens_q` the batch is one sequence of rows that begin there; without it, rows padded on the right.
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
        answer = attend(0, query.shape[2])
    else:
        answer = torch.cat([attend(start, end) for start, end in pairwise(cu_seq_lens_q.tolist())], 2)
    return answer.transpose(1, 2).contiguous(), None
