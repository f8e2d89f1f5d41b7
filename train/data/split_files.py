"""Splits a file of training data into a training and a validation file, and counts the values of a field in each."""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from train.data.checks import check
from train.data.conversations import Problem
from train.data.conversion import as_row, write_rows
from train.data.readers import Columns
from train.data.splits import split


@dataclass(frozen=True)
class SplitFiles:
    """The written files. `strata` has the number of (training, validation) rows for each value of the field."""

    train: Path
    validation: Path
    train_rows: int
    validation_rows: int
    seed: int
    by: str | None
    strata: dict[str, tuple[int, int]]
    problems: tuple[Problem, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self) | {"train": str(self.train), "validation": str(self.validation)}


def split_files(
    data: str | Path,
    train: Path,
    validation: Path,
    *,
    share: float,
    seed: int = 0,
    by: str | None = None,
    columns: Columns | None = None,
    format: str = "auto",  # noqa: A002 -- as the flag
) -> SplitFiles:
    """Writes both parts as OpenAI's JSONL, with the other fields of each row under `metadata`.

    Lines with errors are left out and are in `problems`. Duplicates are in the same part.

    Raises:
        Invalid: a share outside [0, 0.5], or a field that no row has; and whatever `check` raises.
    """
    checked = check(data, columns, format=format, provider="local")
    parts: Any = split(checked.preferences or checked.examples, share, seed, by)  # type: ignore[type-var]  # one of the two, never both
    for path, rows in ((train, parts.train), (validation, parts.validation)):
        write_rows(path, (as_row(row, metadata=True) for row in rows))
    strata: dict[str, tuple[int, int]] = {}
    if by:
        learnt, held_out = (
            Counter(row.metadata.get(by, "") for row in rows) for rows in (parts.train, parts.validation)
        )
        strata = {value: (learnt[value], held_out[value]) for value in sorted(learnt | held_out)}
    return SplitFiles(
        train, validation, len(parts.train), len(parts.validation), seed, by, strata, checked.problems
    )  # fmt: skip
