"""From checked conversations to rows and numbers: the last step before anything heavy is loaded.

It needs the base's tokenizer and config, and none of its weights.
"""

from dataclasses import dataclass
from typing import Any

from train.bases import Base, load_config
from train.data.checks import CheckedData, Data, UnusableData, check
from train.data.conversations import Problem
from train.data.readers import Columns
from train.data.splits import Split, split
from train.hyperparameters import Facts, Hyperparameters, Resolved, resolve
from train.tokens import Row, Tokenised, tokenise


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and how. `examples` count conversations, of which one may give several rows."""

    rows: tuple[Row, ...]
    held: tuple[Row, ...]
    resolved: Resolved
    examples: int
    validation_examples: int
    problems: tuple[Problem, ...]
    masks: tuple[str, ...]


def prepare(checked: CheckedData, parts: Split, tokenizer: Any, base: Base, asked: Hyperparameters) -> Prepared:
    """Rows for both parts, and every "auto" as a number.

    Raises:
        UnusableData: no conversation of the training part can be learnt with this base; it says why.
    """
    config = load_config(base)
    context = int(getattr(config, "max_position_embeddings", 0) or 1_000_000)
    facts = Facts(len(checked.examples), int(getattr(config, "hidden_size", 2_048)), context)
    limit = resolve(asked, facts).values.max_length
    learnt = tokenise(parts.train, tokenizer, min(limit, context))
    held = tokenise(parts.validation, tokenizer, min(limit, context))
    problems = tuple(sorted((*checked.problems, *learnt.problems, *held.problems), key=lambda item: item.line))
    if not learnt.rows:
        first = learnt.problems[0]
        raise UnusableData(
            f"No conversation can be learnt with this base. Line {first.line}: {first.message}; {first.mend}.",
            problems,
        )
    facts = Facts(_lines(learnt), facts.hidden_size, context)
    return Prepared(
        learnt.rows, held.rows, resolve(asked, facts), _lines(learnt), _lines(held), problems,
        tuple(sorted(learnt.methods | held.methods)),
    )  # fmt: skip


def divide(checked: CheckedData, validation: float | Data, columns: Columns | None, seed: int) -> Split:
    """What is learnt and what only measures the loss: a share by seed, or data of its own."""
    if isinstance(validation, int | float):
        return split(checked.examples, validation, seed)
    return Split(checked.examples, check(validation, columns).examples)


def _lines(tokenised: Tokenised) -> int:
    return len({row.line for row in tokenised.rows})
