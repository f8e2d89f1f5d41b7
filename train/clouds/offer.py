"""What a cloud job would be: the data checked by the provider's rules, the files to upload, and the price."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.errors import Invalid, NotFound
from models.quantities import count_noun
from models.registry.shutdowns import countdown, fine_tuning_cutoff
from train.clouds.cloud import Choice, Cloud, JobRequest
from train.data.checks import CheckedData, check, require_usable
from train.data.conversations import Conversation, Example, Preference, Problem
from train.data.conversion import as_jsonl
from train.data.splits import split
from train.planning.pricing import Quote, find_price, quote
from train.planning.token_counts import Counts, Length, count, estimate_tokens
from train.request import TrainingRequest

_PER_MESSAGE = 4  # approximate tokens of a chat template around a message


@dataclass(frozen=True)
class Offer:
    """The job as shown to a person before it is created. `quote` is None if no price is known."""

    cloud: str
    base: str
    name: str
    examples: int
    held_out: int
    left_out: int
    choices: tuple[Choice, ...]
    quote: Quote | None
    warnings: tuple[str, ...]
    problems: tuple[Problem, ...]


Confirm = Callable[[Offer], bool]


@dataclass(frozen=True)
class PreparedData:
    """The examples and pairs for both parts, and their files in the provider's format."""

    learnt: tuple[Any, ...]
    held_out: tuple[Any, ...]
    training: bytes
    validation: bytes
    left_out: int
    problems: tuple[Problem, ...]


def prepare_data(training: TrainingRequest, cloud: Cloud) -> PreparedData:
    """The examples that will be uploaded, checked by the provider's rules and split.

    Raises:
        UnusableData: too few good examples. Invalid: the wrong kind of data for the method, or too large a file.
    """
    share = training.validation if isinstance(training.validation, int | float) else None
    other = None if isinstance(training.validation, int | float) else training.validation
    provider: Any = cloud.provider
    checked = require_usable(
        check(training.data, training.columns, format=training.format, provider=provider, validation=other)
    )
    if checked.labels:
        raise Invalid(
            f"{cloud.title} does not train on answers labelled good or bad (KTO): leave --on out to train here with "
            "--method kto, or remove the labels.",
            param="method",
        )
    items: tuple[Any, ...] = checked.preferences if training.method == "dpo" else checked.examples
    if not items:
        expected, actual = "conversations", "preference pairs"
        if training.method == "dpo":
            expected, actual = actual, expected
        raise Invalid(
            f"The data has {actual}, but --method {training.method} needs {expected}. Choose another --method.",
            param="method",
        )
    learnt, held_out = items, ()
    if share is not None:
        parts = split(items, share, training.hyperparameters.seed)
        learnt, held_out = parts.train, parts.validation
    elif checked.validation:
        held_out = checked.validation.preferences if training.method == "dpo" else checked.validation.examples
    files = as_jsonl(learnt), as_jsonl(held_out)
    if len(files[0]) > cloud.largest_file:
        size = len(files[0])
        raise Invalid(f"{cloud.title} accepts files of at most {cloud.largest_file:,} bytes; this one has {size:,}.")
    return PreparedData(learnt, held_out, *files, checked.left_out, checked.problems)


def make_offer(prepared: PreparedData, cloud: Cloud, request: JobRequest, name: str) -> Offer:
    """The job with its price, by the dated price table, and its warnings."""
    warnings = []
    priced = None
    examples = len(prepared.learnt)
    choices = tuple(cloud.choices(request, examples))
    try:
        price = find_price(request.base, cloud.provider)
    except NotFound:
        warnings.append(f"No price is known for {request.base}. Check {cloud.title}'s price page before you agree")
        warnings += _closing(cloud, request.base)
    else:
        counts = _counts(cloud, request.base, prepared.learnt, price.training_context)
        kind = "full" if request.hyperparameters.tune == "full" else "lora" if cloud.provider == "together" else None
        epochs = float(next(choice.value for choice in choices if choice.name == "epochs"))
        priced = quote(counts, price, epochs=epochs, kind=kind, method=request.method)
        warnings += priced.warnings
        if priced.over_limit:
            warnings.append(
                f"{count_noun(priced.over_limit, 'example is', 'examples are')} over "
                f"{price.training_context:,} tokens: {price.over_context}"
            )
    return Offer(
        cloud=cloud.title,
        base=request.base,
        name=name,
        examples=examples,
        held_out=len(prepared.held_out),
        left_out=prepared.left_out,
        choices=choices,
        quote=priced,
        warnings=tuple(warnings),
        problems=prepared.problems,
    )


def format_dollars(usd: float) -> str:
    """A price in US dollars."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else "less than a cent"


def _closing(cloud: Cloud, base: str) -> list[str]:
    """A warning if the provider takes no new jobs, or soon will not."""
    day = fine_tuning_cutoff(cloud.provider)
    if not day or (left := countdown(base, day)).level == "far":
        return []
    if left.days_left <= 0:
        return [f"{cloud.title} has taken no new fine-tuning jobs since {day}"]
    return [f"{cloud.title} takes no new fine-tuning jobs from {day} on"]


def _counts(cloud: Cloud, base: str, items: tuple[Any, ...], limit: int | None) -> Counts:
    """The tokens of the upload. A pair counts with both its answers."""
    examples = tuple(example for item in items for example in _examples(item))
    if cloud.provider == "openai":
        return count(CheckedData(examples, ()), base, limit=limit)
    # An exact count would need the model's own tokenizer from the hub; the provider's own price follows anyway.
    how = f"an estimate from the number of letters; {cloud.title} gives its own price after the upload"
    lengths = []
    for example in examples:
        tokens = [estimate_tokens(message.content) for message in example.conversation.messages]
        learnt = sum(tokens[place] for place in example.learnt)
        lengths.append(Length(example.line, sum(tokens) + _PER_MESSAGE * len(tokens), learnt))
    return Counts(base, "estimate", how, tuple(lengths), limit)


def _examples(item: Example | Preference) -> tuple[Example, ...]:
    if isinstance(item, Example):
        return (item,)
    answers = (item.chosen, item.rejected)
    return tuple(Example(item.line, Conversation((*item.prompt, *answer), item.tools)) for answer in answers)
