"""From checked data to token rows and hyperparameter values: the last step before weights are loaded.

It needs the base's tokenizer and config, but none of its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from models.errors import Invalid
from train.data.checks import CheckedData, UnusableData, check, require_usable
from train.data.conversations import Example, Preference, Problem
from train.data.splits import Split, split
from train.data.system_messages import count_folded, fold, folded_problem
from train.hyperparameters import Facts, Method, Resolved, resolve
from train.request import TrainingRequest
from train.trainers.bases import Base, count_parameters, load_config
from train.trainers.labelled import tokenise_labelled
from train.trainers.pairs import Pair, tokenise_pairs
from train.trainers.runtime import Device
from train.trainers.templates import folding_of, turn_end_problem
from train.trainers.tokens import Row, Tokenised, tokenise


@dataclass(frozen=True)
class TrainingData:
    """What is learnt, what only measures the loss, and what was wrong with the data. `left_out` counts lines."""

    train: tuple[Example, ...] | tuple[Preference, ...]
    validation: tuple[Example, ...] | tuple[Preference, ...]
    problems: tuple[Problem, ...]
    left_out: int


@dataclass(frozen=True)
class Prepared:
    """What a run trains on and how. `examples` counts conversations, each of which may give several rows, or pairs.

    `warnings` are the problems of the base's chat template with the whole data; `problems` includes them.
    """

    rows: tuple[Row, ...] | tuple[Pair, ...]
    held: tuple[Row, ...] | tuple[Pair, ...]
    resolved: Resolved
    examples: int
    validation_examples: int
    problems: tuple[Problem, ...]
    masks: tuple[str, ...]
    warnings: tuple[Problem, ...] = ()


def prepare(data: TrainingData, request: TrainingRequest, base: Base, tokenizer: Any, device: Device) -> Prepared:
    """Token rows for both parts, and a value for every "auto".

    Raises:
        UnusableData: this base cannot be trained on any of the conversations; the message says why.
        Invalid: the request does not fit the method or the device.
    """
    config = load_config(base)
    context = int(getattr(config, "max_position_embeddings", 0) or 1_000_000)

    def facts(examples: int, rows: int, held_out: bool) -> Facts:
        return Facts(
            examples=examples,
            hidden_size=int(getattr(config, "hidden_size", 2_048)),
            context=context,
            parameters=count_parameters(config),
            rows=rows,
            device=device.kind,
            bf16=device.bf16,
            flash=device.flash,
            held_out=held_out,
            processes=request.gpus * request.nodes,
        )

    values, method = request.hyperparameters, request.method
    total = len(data.train) + len(data.validation)
    limit = min(resolve(values, facts(total, 0, bool(data.validation)), method).values.max_length, context)
    tokenise_any: Any = {"dpo": tokenise_pairs, "kto": tokenise_labelled}.get(method, tokenise)
    training: Tokenised[Any] = tokenise_any(data.train, tokenizer, limit)
    held: Tokenised[Any] = tokenise_any(data.validation, tokenizer, limit)
    turn_end = turn_end_problem(tokenizer)
    warnings = (*((turn_end,) if turn_end else ()), *training.warnings)
    unsorted = (*data.problems, *warnings, *training.problems, *held.problems)
    problems = tuple(sorted(unsorted, key=lambda problem: problem.line))
    if not training.rows:
        first = training.problems[0]
        raise UnusableData(
            f"This base cannot be trained on any conversation. Line {first.line}: {first.message}; {first.mend}.",
            problems,
        )
    examples = _count_lines(training.rows)
    resolved = resolve(values, facts(examples, len(training.rows), bool(held.rows)), method)
    return Prepared(
        training.rows, held.rows, resolved, examples, _count_lines(held.rows), problems,
        tuple(sorted(training.methods | held.methods)), warnings,
    )  # fmt: skip


def fold_for_template(data: TrainingData, request: TrainingRequest, tokenizer: Any) -> TrainingData:
    """The same data with the first system messages folded too, if that is requested and the template does not support
    them.
    """
    if folding_of(request, tokenizer) != "all":
        return data
    number = sum(count_folded(item, "all") for item in (*data.train, *data.validation))
    if not number:
        return data
    where = "at the beginning, which the chat template does not support,"
    training: Any = tuple(fold(item, "all") for item in data.train)
    held: Any = tuple(fold(item, "all") for item in data.validation)
    return replace(data, train=training, validation=held, problems=(folded_problem(number, where), *data.problems))


def check_data(request: TrainingRequest) -> CheckedData:
    """The request's data as `check` reports it; separate validation data is checked too, without what is also learnt.

    Problems of the validation data say so in their message, because their lines are of the other file.

    Raises:
        UnusableData: nothing to learn from.
    """
    held = None if isinstance(request.validation, int | float) else request.validation
    return require_usable(
        with_validation_problems(
            check(request.data, request.columns, format=request.format, provider="local", validation=held)
        )
    )


def with_validation_problems(checked: CheckedData) -> CheckedData:
    """The same report with the problems of the validation data among its own."""
    held = checked.validation.problems if checked.validation else ()
    labelled = tuple(replace(problem, message=f"validation data: {problem.message}") for problem in held)
    return replace(checked, problems=(*checked.problems, *labelled))


def divide(checked: CheckedData, request: TrainingRequest) -> TrainingData:
    """The training and validation parts: a share by seed, or the separate validation data in `checked`.

    With `per_turn` each learnt conversation becomes one example per answer, with the whole context before it. This
    comes after the split, so that no turn of a validation conversation is learnt.

    Raises:
        Invalid: conversations where the method learns from pairs, or pairs where it learns from conversations.
    """
    examples = _examples(checked, request.method)
    if isinstance(request.validation, int | float):
        parts = split(examples, request.validation, request.hyperparameters.seed)
    else:
        parts = Split(examples, _examples(checked.validation, request.method) if checked.validation else ())
    learnt = parts.train
    if request.per_turn and request.method == "sft":
        learnt = tuple(turn for example in learnt for turn in example.per_turn())
    return TrainingData(learnt, parts.validation, checked.problems, checked.left_out)


def _examples(checked: CheckedData, method: Method) -> Any:
    """The examples for the method. Data of another kind is an error, and is not left out silently."""
    if checked.labels and method != "kto":
        raise Invalid(
            "The data has answers labelled good or bad: use method kto. To train on every answer, put the label under "
            "`metadata`.",
            param="method",
        )
    if method == "kto" and not checked.labels and (checked.examples or checked.preferences):
        raise Invalid(
            "KTO learns from labelled answers, and the data has no labels: write "
            '{"prompt": …, "completion": …, "label": true or false}, or use another method.',
            param="method",
        )
    if method == "dpo":
        if checked.examples:
            raise Invalid(
                "DPO learns from pairs of answers, and the data holds conversations: write preference rows "
                '({"input": {"messages": …}, "preferred_output": …, "non_preferred_output": …}), or use method sft.',
                param="method",
            )
        return checked.preferences
    if checked.preferences:
        raise Invalid("The data holds pairs of answers: use method dpo to learn from them.", param="method")
    return checked.examples


def _count_lines(rows: Sequence[Row] | Sequence[Pair]) -> int:
    return len({row.line for row in rows})
