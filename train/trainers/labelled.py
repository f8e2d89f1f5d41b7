"""Answers labelled good or bad as token ids, for KTO. Ids and labels come from `tokens`, as for any conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.data.conversations import Example
from train.trainers.thoughts import ThoughtCheck
from train.trainers.tokens import Row, Tokenised, join_parts, tokenise


@dataclass(frozen=True)
class LabelledRow(Row):
    """A row, and whether its answer is good."""

    good: bool


def tokenise_labelled(examples: Sequence[Example], tokenizer: Any, max_length: int) -> Tokenised[LabelledRow]:
    """Ids and labels for each labelled answer, in order.

    Args:
        examples: checked examples with a label.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: the limit of prompt and answer together, in tokens.
    """
    thoughts = ThoughtCheck(tokenizer)
    parts = [tokenise([example], tokenizer, max_length, thoughts) for example in examples]
    rows = [
        LabelledRow(row.line, row.input_ids, row.labels, bool(example.label))
        for example, part in zip(examples, parts, strict=True)
        # An answer of several turns may give several rows, each with its context: the last row contains them all.
        for row in part.rows[-1:]
    ]
    return join_parts(rows, parts, thoughts)
