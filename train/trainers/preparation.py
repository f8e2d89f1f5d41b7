"""From checked conversations, or preference pairs, to rows and numbers: the last step before anything heavy is loaded.

It needs the base's tokenizer and config, and none of its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.errors import Invalid
from train.data.checks import CheckedData, Data, UnusableData, check
from train.data.conversations import Problem
from train.data.readers import Columns
from train.data.splits import Split, split
from train.hyperparameters import Facts, Hyperparameters, Method, Resolved, resolve
from train.trainers.bases import Base, load_config
from train.trainers.devices import Device
from train.trainers.pairs import Pair, TokenisedPairs, tokenise_pairs
from train.trainers.tokens import Row, Tokenised, tokenise


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and how. `examples` count conversations, of which one may give several rows, or pairs."""

    rows: tuple[Row, ...] | tuple[Pair, ...]
    held: tuple[Row, ...] | tuple[Pair, ...]
    resolved: Resolved
    examples: int
    validation_examples: int
    problems: tuple[Problem, ...]
    masks: tuple[str, ...]


def prepare(
    checked: CheckedData,
    parts: Split[Any],
    tokenizer: Any,
    base: Base,
    asked: Hyperparameters,
    device: Device,
    method: Method = "sft",
    processes: int = 1,
) -> Prepared:
    """Rows for both parts, and every "auto" as a number.

    Raises:
        UnusableData: no conversation of the training part can be learnt with this base; it says why.
        Invalid: something is asked for that the method or the device cannot do.
    """
    config = load_config(base)
    context = int(getattr(config, "max_position_embeddings", 0) or 1_000_000)

    def facts(examples: int, rows: int, held: bool) -> Facts:
        return Facts(
            examples=examples,
            hidden_size=int(getattr(config, "hidden_size", 2_048)),
            context=context,
            parameters=about_parameters(config),
            rows=rows,
            device=device.kind,
            bf16=device.bf16,
            flash=device.flash,
            held_out=held,
            processes=processes,
        )

    whole = len(parts.train) + len(parts.validation)
    limit = resolve(asked, facts(whole, 0, bool(parts.validation)), method).values.max_length
    ids = tokenise_pairs if method == "dpo" else tokenise
    learnt: Tokenised | TokenisedPairs = ids(parts.train, tokenizer, min(limit, context))
    held: Tokenised | TokenisedPairs = ids(parts.validation, tokenizer, min(limit, context))
    problems = tuple(sorted((*checked.problems, *learnt.problems, *held.problems), key=lambda item: item.line))
    if not learnt.rows:
        first = learnt.problems[0]
        raise UnusableData(
            f"No conversation can be learnt with this base. Line {first.line}: {first.message}; {first.mend}.",
            problems,
        )
    examples = _lines(learnt.rows)
    resolved = resolve(asked, facts(examples, len(learnt.rows), bool(held.rows)), method)
    return Prepared(
        learnt.rows, held.rows, resolved, examples, _lines(held.rows), problems,
        tuple(sorted(learnt.methods | held.methods)),
    )  # fmt: skip


def checked_for_training(
    data: Data,
    validation: float | Data,
    columns: Columns | None,
    format: str = "auto",  # noqa: A002 -- as the flag
) -> CheckedData:
    """The data's report; with validation data of its own, that one's too, without what is also learnt.

    Problems of the validation data say so in their message: their lines are of the other file.
    """
    if isinstance(validation, int | float):
        return check(data, columns, format=format, provider="local")
    checked = check(data, columns, format=format, provider="local", validation=validation)
    held = checked.validation.problems if checked.validation else ()
    told = tuple(replace(problem, message=f"validation data: {problem.message}") for problem in held)
    return replace(checked, problems=(*checked.problems, *told))


def divide(
    checked: CheckedData, validation: float | Data, seed: int, method: Method = "sft", *, per_turn: bool = False
) -> Split[Any]:
    """What is learnt and what only measures the loss: a share by seed, or the data of its own in `checked`.

    `per_turn`: each learnt conversation becomes one example for each answer, with all that was said before it. Only
    then, after the split, so that no turn of a conversation that measures is learnt.

    Raises:
        Invalid: conversations where the method learns from pairs, or pairs where it learns from conversations.
    """
    lessons = _lessons(checked, method)
    if isinstance(validation, int | float):
        parts = split(lessons, validation, seed)
    else:
        parts = Split(lessons, _lessons(checked.validation, method) if checked.validation else ())
    if not per_turn or method == "dpo":
        return parts
    return Split(tuple(turn for example in parts.train for turn in example.per_turn()), parts.validation)


def _lessons(checked: CheckedData, method: Method) -> Any:
    """What the method learns from; data of the other kind is never left out in silence."""
    if method == "dpo":
        if checked.examples:
            raise Invalid(
                "DPO learns from pairs of answers, and the data holds conversations: write preference rows "
                '({"input": {"messages": …}, "preferred_output": …, "non_preferred_output": …}), or use method sft.',
                param="method",
            )
        return checked.preferences
    if checked.preferences:
        raise Invalid("The data holds pairs of answers: the method dpo learns from those.", param="method")
    return checked.examples


def about_parameters(config: Any) -> int:
    """About how many parameters a decoder has, from its config: its matrices, without biases and norms."""
    width, layers = int(getattr(config, "hidden_size", 0)), int(getattr(config, "num_hidden_layers", 0))
    heads = int(getattr(config, "num_attention_heads", 1) or 1)
    size = int(getattr(config, "head_dim", 0) or width // heads)
    shared = int(getattr(config, "num_key_value_heads", heads) or heads)
    attention = 2 * width * size * (heads + shared)
    inner = 3 * width * int(getattr(config, "intermediate_size", 4 * width) or 4 * width)
    words = width * int(getattr(config, "vocab_size", 0)) * (1 if getattr(config, "tie_word_embeddings", False) else 2)
    experts = int(getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0) or 1)
    return layers * (attention + inner * experts) + words


def _lines(rows: Sequence[Row] | Sequence[Pair]) -> int:
    return len({row.line for row in rows})
