"""The input and the measurements of one fit, as plain data for one process or several. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from train.hyperparameters import Chosen
from train.run.checkpoints import CheckpointPlan
from train.trainers.bases import Base
from train.trainers.pairs import Pair
from train.trainers.runtime import Device
from train.trainers.tokens import Row

Rows = Sequence[Row] | Sequence[Pair]
TOKENS_AT_ONCE = 16_384  # in one micro-batch with padding: limits the memory of activations
FEWEST_ROWS: Mapping[str, int] = MappingProxyType({"kto": 2})  # of a micro-batch, whose answers KTO compares


def micro_batch(batch: int, longest: int, tokens: int = TOKENS_AT_ONCE, rows: int | None = None) -> int:
    """The largest micro-batch that divides `batch` evenly and has at most `tokens` tokens with padding.

    `rows` limits it further, after memory ran out.
    """
    most = min(batch, rows or batch)
    return next((size for size in range(most, 1, -1) if batch % size == 0 and size * longest <= tokens), 1)


def rows_at_once(method: str, batch: int, longest: int, most: int | None = None) -> int:
    """The size of a micro-batch, which divides `batch` evenly; of pairs for DPO.

    Args:
        longest: the tokens of the longest row, or of the longer side of a pair. most: the limit after memory ran out.
    """
    micro = micro_batch(batch, longest * (1 if method == "sft" else 2), rows=most)
    if fewest := FEWEST_ROWS.get(method):
        micro = next((size for size in range(max(fewest, micro), batch + 1) if batch % size == 0), batch)
    return micro


@dataclass(frozen=True)
class FitJob:
    """Everything that a fit needs but its tokenizer.

    Attributes:
        base: the weights to start from; they are not changed.
        rows: what is learnt: rows, or pairs for DPO.
        measured: what the losses before, during and after training are measured on.
        work: the trainer's working folder, deleted by the caller afterwards.
        output: where the adapter goes, or the whole weights after full tuning.
        base_name: what adapter_config.json calls the base: a name that is valid on other machines.
        processes: how many share each batch (`launch`), on all nodes together. nodes: the machines that they run on.
        shard: "fsdp" divides the base's weights among the processes (`sharding`); "none" gives each a copy.
    """

    base: Base
    rows: Rows
    measured: Rows
    hyperparameters: Chosen
    work: Path
    output: Path
    base_name: str
    device: Device
    checkpoints: CheckpointPlan
    processes: int = 1
    nodes: int = 1
    shard: str = "none"


@dataclass(frozen=True)
class Measured:
    """A mean over rows. For SFT `loss` is in nats per learnt token and `accuracy` the share of these tokens that the
    model ranks first; for DPO they are the mean DPO loss and the share of pairs ranked correctly, and `margin` is the
    mean reward of the preferred answer minus that of the other, in nats.
    """

    loss: float
    accuracy: float
    margin: float | None = None


@dataclass(frozen=True)
class FitResult:
    """What a fit measured over all `measured` rows; `best_step` is set if it went back to an earlier step."""

    before: Measured
    after: Measured
    steps: int
    tokens: int
    learnt_tokens: int
    seconds: float
    peak_memory_bytes: int
    best_step: int | None = None
