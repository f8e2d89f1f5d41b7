"""Answers labelled good or bad as token ids, for KTO. Ids and labels come from `tokens`, as for any conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from train.data.conversations import Example, Problem
from train.trainers.thoughts import ThoughtCheck
from train.trainers.tokens import Method, Row, tokenise


@dataclass(frozen=True)
class LabelledRow(Row):
    """A row, and whether its answer is good."""

    good: bool


@dataclass(frozen=True)
class TokenisedLabels:
    """The rows, what could not be used and why, the methods that found the labels, and warnings about all rows."""

    rows: tuple[LabelledRow, ...]
    problems: tuple[Problem, ...]
    methods: frozenset[Method]
    warnings: tuple[Problem, ...] = ()


def tokenise_labelled(examples: Sequence[Example], tokenizer: Any, max_length: int) -> TokenisedLabels:
    """Ids and labels for each labelled answer, in order.

    Args:
        examples: checked examples with a label.
        tokenizer: a transformers tokenizer with a chat template.
        max_length: the limit of prompt and answer together, in tokens.
    """
    rows: list[LabelledRow] = []
    problems: list[Problem] = []
    methods: set[Method] = set()
    thoughts = ThoughtCheck(tokenizer)
    for example in examples:
        tokenised = tokenise([example], tokenizer, max_length, thoughts)
        methods |= tokenised.methods
        problems += tokenised.problems
        # An answer of several turns may give several rows, each with its context: the last row contains them all.
        last = tokenised.rows[-1:]
        rows += [LabelledRow(row.line, row.input_ids, row.labels, bool(example.label)) for row in last]
    return TokenisedLabels(tuple(rows), tuple(problems), frozenset(methods), thoughts.problems())
