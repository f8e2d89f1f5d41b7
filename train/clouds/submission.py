"""From data to exactly one job in a cloud: checked, priced, confirmed, uploaded, created. Each step may be repeated.

The record in the run's folder is written before anything is asked for that must not happen twice. Whoever runs the
same command again goes on where it stopped; a job whose answer got lost is looked up before another is asked for.
"""

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from models.errors import Busy, Conflict, Invalid, NotFound, ParleyError, Unauthorized, Unavailable
from models.registry import Registry
from models.settings import Settings
from models.shutdowns import countdown, fine_tuning_cutoff
from train.clouds.cloud import Choice, Cloud, CloudJob, Order
from train.clouds.run_records import CloudRun, alone, cloud_runs, fingerprint, new_run
from train.data.checks import CheckedData, Data, check, require_usable
from train.data.conversations import Conversation, Example, Preference, Problem
from train.data.conversion import as_jsonl
from train.data.readers import Columns
from train.data.splits import split
from train.hyperparameters import Hyperparameters
from train.planning.counting import Counts, Length, count, estimate_tokens
from train.planning.pricing import Quote, find_price, quote
from train.publication.publish import check_name
from train.run.progress import Progress, Stage, silent

_TRIES = 5
_LOOKS = (0.5, 2.0, 5.0)  # seconds before each look for a job whose answer got lost: a list may lag behind
_LONGEST_WAIT_S = 120.0
_PER_MESSAGE = 4  # tokens of a chat template around a message, about

Pause = Callable[[float], None]


@dataclass(frozen=True)
class Offer:
    """What is about to be bought, for a person to agree to. `quote` is None where no price is known."""

    cloud: str
    base: str
    name: str
    examples: int
    held_out: int
    left_out: int
    bytes: int
    choices: tuple[Choice, ...]
    quote: Quote | None
    warnings: tuple[str, ...]
    problems: tuple[Problem, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "cloud": self.cloud,
            "base": self.base,
            "name": self.name,
            "examples": self.examples,
            "held_out": self.held_out,
            "left_out": self.left_out,
            "bytes": self.bytes,
            "choices": [asdict(choice) for choice in self.choices],
            "quote": self.quote.as_json() if self.quote else None,
            "warnings": list(self.warnings),
            "problems": [asdict(problem) for problem in self.problems],
        }


Agree = Callable[[Offer], bool]


def agreed(offer: Offer) -> bool:
    """Agrees to everything."""
    return True


def order(
    data: Data,
    *,
    cloud: Cloud,
    base: str,
    name: str,
    settings: Settings,
    registry: Registry,
    method: Literal["sft", "dpo"] = "sft",
    hyperparameters: Hyperparameters | None = None,
    multiplier: float | None = None,
    validation: float | Data = 0.1,
    columns: Columns | None = None,
    agree: Agree = agreed,
    progress: Progress = silent,
    pause: Pause = time.sleep,
) -> CloudRun:
    """Asks a cloud to fine-tune a model on data, once, however often this is called with the same.

    Args:
        data, hyperparameters, validation, columns, method: as in `train.train`; a number that the cloud has no place
            for is refused.
        base: the provider's name of the model to start from.
        name: what the result will be registered as here; its letters make the suffix there.
        multiplier: OpenAI's learning_rate_multiplier.
        agree: shown the offer with its price before anything is sent; False ends it.
        pause: waits some seconds.

    Returns:
        The run's record, with a job. It is not over: `following.follow` waits for it.

    Raises:
        UnusableData: the data. Invalid: something the cloud cannot do, or not agreed. Conflict: the name is taken, or
        another run of that name is under way. Unauthorized, Busy, Unavailable: the provider.
    """
    check_name(registry, name)
    asked = hyperparameters or Hyperparameters()
    plain = Order("", base, _suffix(name, cloud), method, asked, multiplier=multiplier)
    cloud.refuse(plain)
    prepared = _prepared(data, validation, columns, cloud, method, asked.seed)
    mark = fingerprint(
        prepared.training,
        prepared.validation,
        {"base": base, "method": method, "multiplier": multiplier} | asdict(asked),
    )
    with alone(settings, name):
        run = _unfinished(settings, cloud, name, mark)
        if run is None:
            offer = _offer(prepared, cloud, plain, name)
            if not agree(offer):
                raise Invalid(f"Nothing was sent to {cloud.title}.")
            run = new_run(
                settings, prepared.training, prepared.validation,
                provider=cloud.provider, name=name, base=base, suffix=plain.suffix, method=method,
                hyperparameters=asdict(asked), multiplier=multiplier, fingerprint=mark,
                examples=len(prepared.learnt), held_out=len(prepared.held), data=_named(data),
                usd=offer.quote.usd if offer.quote else None,
            )  # fmt: skip
        elif run.job:
            progress(Stage(f"{cloud.title} has this job already: {run.job}"))
            return run
        else:
            progress(Stage(f"Going on with the run {run.run}, which was interrupted"))
        run = _upload(run, cloud, progress)
        _check_estimate(run, cloud, progress)
        progress(Stage(f"Asking {cloud.title} for the job"))
        before, run = run.sending, run.saved(sending=True)
        try:
            job = create_once(cloud, run.order, run.examples, first=not before, pause=pause)
        except (Busy, Invalid, NotFound, Unauthorized):
            run.saved(sending=before)  # refused in words: there is no job
            raise
        progress(Stage(f"{cloud.title} made the job {job.id}"))
        return run.with_job(job)


def create_once(
    cloud: Cloud, order: Order, examples: int, *, first: bool = True, pause: Pause = time.sleep
) -> CloudJob:
    """One job for an order. Where an answer got lost, the job is looked up before it is asked for again.

    Args:
        first: whether it was never asked for before, so that there can be no job yet.

    Raises:
        Unavailable: it is not known whether there is a job: the provider cannot be asked. What the provider refuses.
    """
    if not first and (known := cloud.find(order)):
        return known
    for attempt in range(1, _TRIES + 1):
        try:
            return cloud.create(order, examples)
        except Busy as error:  # refused for now, so nothing was made
            if attempt == _TRIES or (error.retry_after or 0) > _LONGEST_WAIT_S:
                raise
            pause(error.retry_after if error.retry_after is not None else 2.0**attempt)
        except Unavailable:
            known = _looked_up(cloud, order, pause)
            if known:
                return known
            if attempt == _TRIES:
                raise
    raise Unavailable(f"{cloud.title} made no job.")


def _looked_up(cloud: Cloud, order: Order, pause: Pause) -> CloudJob | None:
    """The job after all, or None once a look at the provider's list has said that there is none."""
    answered = False
    for seconds in _LOOKS:
        pause(seconds)
        try:
            known = cloud.find(order)
        except (Busy, Unavailable):
            continue
        answered = True
        if known:
            return known
    if not answered:
        raise Unavailable(
            f"{cloud.title} does not answer, so it is not known whether the job was made. Run the same command again "
            "later: it looks before it asks."
        )
    return None


@dataclass(frozen=True)
class _Prepared:
    learnt: tuple[Any, ...]
    held: tuple[Any, ...]
    training: bytes
    validation: bytes
    left_out: int
    problems: tuple[Problem, ...]


def _prepared(
    data: Data,
    validation: float | Data,
    columns: Columns | None,
    cloud: Cloud,
    method: Literal["sft", "dpo"],
    seed: int,
) -> _Prepared:
    """What will be sent, checked by the provider's rules: the good lines, and those that are held out."""
    share = validation if isinstance(validation, int | float) else None
    other = None if isinstance(validation, int | float) else validation
    provider: Any = cloud.provider
    checked = require_usable(check(data, columns, provider=provider, validation=other))
    items: tuple[Any, ...] = checked.preferences if method == "dpo" else checked.examples
    if not items:
        wanted, has = (
            ("preference pairs", "conversations") if method == "dpo" else ("conversations", "preference pairs")
        )
        raise Invalid(f"The data holds {has}, and {method} learns from {wanted}: see --method.", param="method")
    if share is not None:
        parts = split(items, share, seed)
        learnt, held = parts.train, parts.validation
    else:
        other_part = checked.validation
        learnt, held = items, (other_part.preferences if method == "dpo" else other_part.examples) if other_part else ()
    training, held_bytes = as_jsonl(learnt), as_jsonl(held)
    if len(training) > cloud.largest_file:
        raise Invalid(f"{cloud.title} takes files of {cloud.largest_file:,} bytes; this is {len(training):,}.")
    return _Prepared(learnt, held, training, held_bytes, checked.left_out, checked.problems)


def _offer(prepared: _Prepared, cloud: Cloud, order: Order, name: str) -> Offer:
    """The price by the dated table, and what speaks against buying."""
    warnings = []
    priced = None
    try:
        price = find_price(order.base, cloud.provider)
    except NotFound:
        warnings.append(f"No price is known for {order.base}: look at {cloud.title}'s own page before you agree")
    else:
        counts = _counts(cloud, order.base, prepared.learnt, price.training_context)
        kind = "full" if order.hyperparameters.tune == "full" else "lora" if cloud.provider == "together" else None
        epochs = _epochs(cloud, order, len(prepared.learnt))
        priced = quote(counts, price, epochs=epochs, kind=kind, method=order.method)
        warnings += priced.warnings
        if priced.over_limit:
            warnings.append(
                f"{priced.over_limit:,} examples are over {price.training_context:,} tokens: {price.over_context}"
            )
    last = fine_tuning_cutoff(cloud.provider)
    if priced is None and last and (left := countdown(order.base, last)).level != "far":
        since = left.days_left <= 0
        told = (
            f"has taken no new fine-tuning job since {last}"
            if since
            else f"takes no new fine-tuning job from {last} on"
        )
        warnings.append(f"{cloud.title} {told}")
    return Offer(
        cloud=cloud.title,
        base=order.base,
        name=name,
        examples=len(prepared.learnt),
        held_out=len(prepared.held),
        left_out=prepared.left_out,
        bytes=len(prepared.training) + len(prepared.validation),
        choices=tuple(cloud.choices(order, len(prepared.learnt))),
        quote=priced,
        warnings=tuple(warnings),
        problems=prepared.problems,
    )


def _counts(cloud: Cloud, base: str, items: tuple[Any, ...], limit: int | None) -> Counts:
    """The tokens of what is sent. A pair counts with both its answers."""
    examples = tuple(one for item in items for one in _both(item))
    if cloud.provider == "openai":
        return count(CheckedData(examples, ()), base, limit=limit)
    # The model's own tokenizer would have to be fetched, and the provider's own price follows.
    how = f"an estimate by letters; {cloud.title}'s own comes once it has the file"
    lengths = []
    for example in examples:
        tokens = [estimate_tokens(message.content) for message in example.conversation.messages]
        learnt = sum(tokens[place] for place in example.learnt)
        lengths.append(Length(example.line, sum(tokens) + _PER_MESSAGE * len(tokens), learnt))
    return Counts(base, "estimate", how, tuple(lengths), limit)


def _both(item: Example | Preference) -> tuple[Example, ...]:
    if isinstance(item, Example):
        return (item,)
    answers = (item.chosen, item.rejected)
    return tuple(Example(item.line, Conversation((*item.prompt, *answer), item.tools)) for answer in answers)


def _epochs(cloud: Cloud, order: Order, examples: int) -> float:
    """The epochs that will be billed, from what the cloud says that it will do."""
    return float(next(choice.value for choice in cloud.choices(order, examples) if choice.name == "epochs"))


def _unfinished(settings: Settings, cloud: Cloud, name: str, mark: str) -> CloudRun | None:
    """The run to go on with. One of the same name and other content stands in the way."""
    for run in cloud_runs(settings):
        if run.name != name or run.state in ("failed", "cancelled"):
            continue
        if run.fingerprint == mark and run.provider == cloud.provider:
            return run
        if run.sending:
            raise Conflict(
                f"A run named {name!r} is at {run.provider} already ({run.job or run.run}) with other data or numbers: "
                f"choose another name, or `parley cloud cancel {name}`.",
                param="name",
            )
    return None


def _upload(run: CloudRun, cloud: Cloud, progress: Progress) -> CloudRun:
    """The files, each once; those that the provider has lost since are sent again."""
    for part, path in (("training_file", run.training_path), ("validation_file", run.validation_path)):
        if not path.is_file() or ((known := getattr(run, part)) and cloud.has_file(known)):
            continue
        progress(Stage(f"Sending {path.name}, {math.ceil(path.stat().st_size / 1024):,} KiB, to {cloud.title}"))
        run = run.saved(**{part: cloud.upload(path)})
    for file_id in (run.training_file, run.validation_file):
        if file_id:
            cloud.wait_for(file_id)
    return run


def _check_estimate(run: CloudRun, cloud: Cloud, progress: Progress) -> None:
    try:
        found = cloud.estimate(run.order, run.examples)
    except (Busy, Unavailable) as error:
        progress(Stage(f"No estimate from {cloud.title}: {error}"))
        return
    if found is None:
        return
    progress(Stage(f"{cloud.title} expects {dollars(found.usd)}"))
    if not found.allowed:
        raise ParleyError(f"{cloud.title} says that the account cannot pay {dollars(found.usd)}: nothing was started.")


def dollars(usd: float) -> str:
    """A price as people say it."""
    return f"${usd:,.2f}" if usd >= 0.01 or usd == 0 else "less than a cent"


def _suffix(name: str, cloud: Cloud) -> str:
    """A name's letters and digits, as providers take them in a suffix."""
    suffix = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[: cloud.longest_suffix].strip("-")
    return suffix or "parley"


def _named(data: Data) -> str:
    return str(data) if isinstance(data, str | Path) else "in memory"
