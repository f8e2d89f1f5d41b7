"""The parts of the Bitext data that the stages use: training, validation, questions, and pairs for DPO."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.evals import bitext
from bench.evals.bitext import Parts, Request
from bench.real.options import Sizes
from bench.support import conversations
from models.errors import Invalid
from models.files.atomic import atomic_write


@dataclass(frozen=True)
class RealParts:
    """Disjoint requests for each purpose; `whole` is the split of all data, from which the scorers are made."""

    whole: Parts
    training: tuple[Request, ...]
    validation: tuple[Request, ...]
    questions: tuple[Request, ...]
    pairs: tuple[Request, ...]


def split_requests(requests: tuple[Request, ...], sizes: Sizes, seed: int) -> RealParts:
    """Takes training and DPO requests from the training part, questions and validation from the held-out part.

    Raises:
        Invalid: there are not enough requests.
    """
    whole = bitext.hold_out(requests, 0.1, seed)
    training, rest = whole.training[: sizes.conversations], whole.training[sizes.conversations :]
    questions, others = whole.held_out[: sizes.questions], whole.held_out[sizes.questions :]
    parts = RealParts(whole, training, others[: sizes.validation], questions, rest[: sizes.pairs])
    if len(parts.pairs) < sizes.pairs or len(parts.validation) < sizes.validation:
        raise Invalid(f"The data has {len(requests)} requests, too few for these sizes: use --quick.")
    return parts


def write_chat_files(parts: RealParts, folder: Path) -> tuple[Path, Path]:
    """Writes training.jsonl and validation.jsonl as chat JSONL; returns their paths."""
    paths = folder / "training.jsonl", folder / "validation.jsonl"
    for path, requests in zip(paths, (parts.training, parts.validation), strict=True):
        write_lines(path, conversations(requests))
    return paths


def preference_rows(requests: Iterable[Request], rejected: Iterable[str | None]) -> list[dict[str, Any]]:
    """Preference rows in OpenAI's format: the data's answer is preferred to the base's; without a rejected answer, or
    with the same, there is no row."""
    return [
        {
            "input": {"messages": [{"role": "user", "content": request.question}]},
            "preferred_output": [{"role": "assistant", "content": request.answer}],
            "non_preferred_output": [{"role": "assistant", "content": answer}],
        }
        for request, answer in zip(requests, rejected, strict=True)
        if answer and answer.strip() and answer.strip() != request.answer
    ]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes JSONL atomically."""
    atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
