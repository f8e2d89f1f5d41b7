"""The leak test: whether rows packed into one batch influence each other's logits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.training.throughput import tokenise_rows


@dataclass(frozen=True)
class Leak:
    """Largest differences of a row's logits in one packed batch, in float32.

    `neighbours`: after the other rows' tokens change. `alone`: from the row without a batch; `alone_relative` is that
    divided by the largest logit.
    """

    neighbours: float
    alone: float
    alone_relative: float
    rows: int


def measure_leak(rows: Sequence[dict[str, Any]], base: Path, threads: int) -> Leak:
    """Packs the rows, replaces every other row by different tokens of equal length, and compares the logits."""
    import torch

    from train.trainers.bases import find_base, load_model
    from train.trainers.library_output import quiet
    from train.trainers.packing import PackedCollator, attend_by_row

    ids = [row.input_ids for row in tokenise_rows(rows, base)]
    with quiet(None, threads), torch.no_grad():
        model = load_model(find_base(base), torch.float32, "cpu").eval()
        size = model.config.vocab_size
        changed = [row if index % 2 else [(token + 101) % size for token in row] for index, row in enumerate(ids)]
        alone = [model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in ids]
        attend_by_row(model)

        def packed_logits(rows: Sequence[list[int]]) -> Any:
            batch = PackedCollator()([{"input_ids": row, "labels": row} for row in rows])
            del batch["labels"], batch["tokens"]
            return model(**batch, use_cache=False).logits[0].split([len(row) for row in rows])

        first, second = packed_logits(ids), packed_logits(changed)
    apart = max(float((packed - single).abs().max()) for packed, single in zip(first, alone, strict=True))
    largest = max(float(logits.abs().max()) for logits in alone)
    moved = max(float((first[index] - second[index]).abs().max()) for index in range(1, len(ids), 2))
    return Leak(moved, apart, apart / largest, len(ids))
